"""Arguments of tool calls as plain text between tags: what a JSON schema allows there, and which
JSON a text stands for. Grammars and parsers both go by it. Pure.

A string stands between its tags as it is. Every other value is JSON. Which of the two a text is
follows from the schema alone.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

_MAX_DEPTH = 20
_WORDS = {"True": "true", "False": "false", "None": "null"}
"""Spellings of Python, which templates show to models and models repeat."""

_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: (
        not isinstance(value, bool)
        and (isinstance(value, int) or (isinstance(value, float) and value.is_integer()))
    ),
}


class AllowedValues(Struct, frozen=True):
    """The values that a schema allows.

    `literals` are single strings; `lengths` are the bounds of other strings' lengths in characters
    (None: no bound). `others` are schemas of values that are no strings, each of one type; `{}` is
    any such value. `ignored` are keywords for strings that this description leaves out.
    """

    literals: tuple[str, ...] = ()
    lengths: tuple[tuple[int, int | None], ...] = ()
    others: tuple[Mapping[str, Any], ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def has_text(self) -> bool:
        """Whether the value may be a string."""
        return bool(self.literals or self.lengths)

    @property
    def is_text(self) -> bool:
        """Whether the value is a string that stands for itself, character by character."""
        return not self.others and not self.literals

    @property
    def is_free(self) -> bool:
        """Whether any text is allowed."""
        return (0, None) in self.lengths


ANYTHING = AllowedValues(lengths=((0, None),), others=({},))


def allowed_values(schema: Any, root: Mapping[str, Any]) -> AllowedValues:
    """What a part of the schema `root` allows. A part that is not understood allows anything."""
    return _allowed(schema, root, _MAX_DEPTH)


def read_value(text: str, allowed: AllowedValues) -> str:
    """The JSON that a text stands for. A text that fits no allowed value is read as JSON if it is
    JSON, otherwise as a string."""
    word = _WORDS.get(text.strip(), text.strip())
    value = _decoded(word)
    if any(_fits(value, other) for other in allowed.others):
        return word
    if not allowed.has_text and not isinstance(value, str):
        return word
    return json.dumps(word if word in allowed.literals else text, ensure_ascii=False)


def resolved(schema: Any, root: Mapping[str, Any]) -> Any:
    """The schema that a reference within `root` leads to, or the schema itself. None for a
    reference that leads nowhere."""
    for _ in range(_MAX_DEPTH):
        if not isinstance(schema, dict) or "$ref" not in schema:
            return schema
        schema = _target(schema["$ref"], root)
    return None


def moved(part: Any, pointer: str) -> Any:
    """A schema whose references begin at `pointer`, so that it can stand within another one."""
    if isinstance(part, list):
        return [moved(item, pointer) for item in part]
    if not isinstance(part, dict):
        return part
    result = {key: moved(value, pointer) for key, value in part.items()}
    reference = part.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        result["$ref"] = pointer + reference[1:]
    return result


def _target(reference: Any, root: Any) -> Any:
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    for step in reference.removeprefix("#").split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        root = root.get(name) if isinstance(root, dict) else None
    return root


def _allowed(schema: Any, root: Mapping[str, Any], depth: int) -> AllowedValues:
    schema = resolved(schema, root)
    if not isinstance(schema, dict) or not depth:
        return ANYTHING
    if "const" in schema:
        return _enumerated([schema["const"]])
    if isinstance(schema.get("enum"), list):
        return _enumerated(schema["enum"])
    for key in ("anyOf", "oneOf", "allOf"):
        parts = schema.get(key)
        if isinstance(parts, list) and (key != "allOf" or len(parts) == 1):
            return _joined([_allowed(part, root, depth - 1) for part in parts])
    return _typed(schema)


def _typed(schema: Mapping[str, Any]) -> AllowedValues:
    kind = schema.get("type")
    if kind is None and "properties" in schema:
        kind = "object"
    elif kind is None and ("items" in schema or "prefixItems" in schema):
        kind = "array"
    if isinstance(kind, list):
        return _joined([_typed({**schema, "type": each}) for each in kind])
    if kind == "string":
        return _strings(schema)
    if kind in _TYPES:
        return AllowedValues(others=({**schema, "type": kind},))
    return ANYTHING


def _strings(schema: Mapping[str, Any]) -> AllowedValues:
    lengths = (schema.get("minLength", 0), schema.get("maxLength"))
    ignored = tuple(key for key in ("pattern", "format", "allOf", "not") if key in schema)
    return AllowedValues(lengths=(lengths,), ignored=ignored)


def _enumerated(values: list[Any]) -> AllowedValues:
    strings = tuple(value for value in values if isinstance(value, str))
    others = [value for value in values if not isinstance(value, str)]
    return AllowedValues(literals=strings, others=({"enum": others},) if others else ())


def _joined(parts: list[AllowedValues]) -> AllowedValues:
    return AllowedValues(
        tuple(each for part in parts for each in part.literals),
        tuple(each for part in parts for each in part.lengths),
        tuple(each for part in parts for each in part.others),
        tuple(each for part in parts for each in part.ignored),
    )


def _decoded(text: str) -> Any:
    """The value of a JSON text; the text itself if it is not JSON."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _fits(value: Any, other: Mapping[str, Any]) -> bool:
    if isinstance(value, str):
        return False
    if "enum" in other:
        return any(value == each and type(value) is type(each) for each in other["enum"])
    return not other or _TYPES[other["type"]](value)
