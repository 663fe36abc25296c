"""Rules for the arguments of tool calls that are plain text between tags."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from runtime.errors import InvalidRequest
from runtime.messages.structured_output import ArgumentTags, TagStructure
from runtime.messages.tagged_values import (
    ANYTHING,
    AllowedValues,
    allowed_values,
    moved,
    resolved,
)

_KEY = r"[^<>\"\s]{1,64}"
_KNOWN = frozenset(
    (
        *("type", "properties", "required", "additionalProperties", "$defs", "definitions"),
        *("description", "title", "default", "examples", "deprecated", "readOnly", "writeOnly"),
        *("$schema", "$id", "$comment", "x-guidance"),
    )
)
"""Keywords of a function's parameters that the rules enforce, or that mean nothing for them."""

Terms = Callable[[str], list[str]]
"""Splits a text into terms of a rule: literals, and tokens that stand for no text."""


def text_rules(tags: ArgumentTags, terms: Terms) -> list[str]:
    """The rules for a value that may be any text, which all calls share."""
    return [f"KEY: /{_KEY}/", *_until_end("any_text", "/(.|\\n)*/", tags.value_end, terms)]


class ArgumentRules:
    """The rules `name` and below for the arguments of one call, in the order of the schema.

    `root` is the schema with llguidance's options. Raises InvalidRequest for a call whose schema is
    to be enforced literally and cannot be.
    """

    def __init__(
        self,
        name: str,
        structure: TagStructure,
        root: Mapping[str, Any],
        tags: ArgumentTags,
        terms: Terms,
    ) -> None:
        self._name = name
        self._structure = structure
        self._options = root.get("x-guidance", {})
        self._root = {key: value for key, value in root.items() if key != "x-guidance"}
        self._tags = tags
        self._terms = terms
        self._lines: list[str] = []

    def lines(self) -> list[str]:
        schema = resolved(self._root, self._root)
        schema = schema if isinstance(schema, dict) else {}
        self._refuse([key for key in schema if key not in _KNOWN])
        properties = schema.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        required = [key for key in schema.get("required", ()) if isinstance(key, str)]
        wanted = {**properties, **{key: {} for key in required if key not in properties}}
        parts = [
            self._argument(number, key, part) + ("" if key in required else "?")
            for number, (key, part) in enumerate(wanted.items())
        ]
        additional = schema.get("additionalProperties", True)
        if additional is not False:
            parts.append(self._further(additional, list(wanted)))
        return [f"{self._name}: {' '.join(parts) or json.dumps('')}", *self._lines]

    def _argument(self, number: int, key: str, schema: Any) -> str:
        rule = f"{self._name}_{number}"
        before = self._terms(self._tags.before_key + key + self._tags.before_value)
        value = self._value(rule, allowed_values(schema, self._root))
        self._lines.append(f"{rule}: {' '.join(before)} {value}")
        return rule

    def _further(self, schema: Any, names: list[str]) -> str:
        """Arguments whose names are not in the schema."""
        rule, key = f"{self._name}_more", "KEY"
        if names:
            key = f"KEY_OF_{self._name}".upper()
            others = "|".join(_escaped(name) for name in names)
            self._lines.append(f"{key}: /{_KEY}/ & ~/({others})/")
        begin, middle = self._terms(self._tags.before_key), self._terms(self._tags.before_value)
        allowed = ANYTHING if schema is True else allowed_values(schema, self._root)
        value = self._value(rule, allowed)
        self._lines.append(f"{rule}: {' '.join([*begin, key, *middle])} {value}")
        return f"{rule}*"

    def _value(self, rule: str, allowed: AllowedValues) -> str:
        """The expression for a value with everything up to the next argument."""
        tags = self._tags
        after = " ".join(self._terms(tags.after))
        if allowed.is_free and not allowed.ignored:
            return f"any_text {after}"
        self._refuse(allowed.ignored)
        exact = [json.dumps(tags.margin + text) for text in allowed.literals]
        margin = json.dumps(tags.margin) if tags.margin else ""
        for number, other in enumerate(allowed.others):
            self._lines.append(f"{rule}_json_{number}: %json {self._json(other)}")
            exact.append(f"{margin} {rule}_json_{number}")
        ways = []
        if exact:
            end = " ".join(self._terms(tags.margin + tags.value_end))
            ways.append(f"({' | '.join(exact)}) {end}")
        ways += [self._bounded(f"{rule}_text_{n}", each) for n, each in enumerate(allowed.lengths)]
        return f"({' | '.join(ways)}) {after}"

    def _json(self, schema: Mapping[str, Any]) -> str:
        written: dict[str, Any] = {**schema, "x-guidance": self._options}
        if "$ref" in json.dumps(schema):
            place = "#/$defs/arguments"
            written = moved(written, place)
            written["$defs"] = {"arguments": moved(self._root, place)}
        return json.dumps(written, ensure_ascii=False)

    def _bounded(self, rule: str, lengths: tuple[int, int | None]) -> str:
        """The expression for a string with these bounds of its length."""
        if lengths == (0, None):
            return "any_text"
        shortest, longest = lengths
        margin, end = _escaped(self._tags.margin), _escaped(self._tags.value_end)
        body = f"{margin}(.|\\n){{{shortest},{'' if longest is None else longest}}}{margin}"
        lexeme = f"/{body}/ & ~/(.|\\n)*{end}(.|\\n)*/"
        self._lines += _until_end(rule, lexeme, self._tags.value_end, self._terms)
        return rule

    def _refuse(self, keywords: object) -> None:
        """Raises InvalidRequest for keywords that a strict function has and no rule enforces."""
        if keywords and self._structure.is_strict:
            assert isinstance(keywords, list | tuple), "keywords are a list: this is a bug"
            raise InvalidRequest(
                f"`{self._structure.source}` cannot be enforced: this model writes arguments as"
                f" text between tags, where `{keywords[0]}` is not supported. Leave it out, or"
                " leave out `strict`.",
                param=self._structure.source,
                code="invalid_function_parameters",
            )


def _until_end(rule: str, lexeme: str, end: str, terms: Terms) -> list[str]:
    """The rules for text up to and with the end tag. A lazy lexeme ends at the first one."""
    name, [first, *rest] = rule.upper(), terms(end)
    if first.startswith("<["):
        return [f"{name}: {lexeme}", f"{rule}: {' '.join([name, first, *rest])}"]
    lazy = f"{rule}_to_end"
    return [
        f"{name}: {lexeme}",
        f"{lazy}[lazy]: {name} {first}",
        f"{rule}: {' '.join([lazy, *rest])}",
    ]


def _escaped(text: str) -> str:
    """A text as a part of a regular expression."""
    special = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return "".join(
        special.get(char, f"\\{char}" if char in r"\.^$*+?()[]{}|/" else char) for char in text
    )
