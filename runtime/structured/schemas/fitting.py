"""Makes a schema fit what the compiler can enforce."""

import json
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct

from runtime.messages.structured_output import LeftOut
from runtime.structured.reasons import one_line
from runtime.structured.schemas.keywords import MalformedSchema
from runtime.structured.schemas.reader import ReadSchema, read_schema
from runtime.structured.schemas.references import Pointer, path_of
from runtime.structured.schemas.search import alone, find_mistake, without

MAX_TRIALS = 20
MAX_SECONDS = 0.4
"""Number of keywords that are left out because the compiler refuses them, one after another, and
the time in seconds after which no more are looked for."""

_TRIED = (
    *("pattern", "format", "multipleOf", "minimum", "maximum", "exclusiveMinimum"),
    *("exclusiveMaximum", "minLength", "maxLength", "minItems", "maxItems", "minProperties"),
    *("maxProperties", "enum", "const", "required", "allOf", "anyOf", "oneOf", "$ref"),
    *("patternProperties", "properties"),
)
"""Keywords without which a schema allows more. They are left out in this order."""


class Unenforceable(ValueError):
    """A schema, at `path`, cannot be enforced for the reason of the message. What `is_optional` is
    left out of a schema that is not strict."""

    def __init__(self, path: str, reason: str, *, is_optional: bool = False) -> None:
        super().__init__(reason)
        self.path = path
        self.is_optional = is_optional


class FittedSchema(Struct, frozen=True):
    """The text of a schema that the compiler reads, and what it does not enforce."""

    text: str
    left_out: tuple[LeftOut, ...] = ()


class SchemaFitter:
    """Fits schemas to a compiler. `error_of` says why a schema's text does not compile; "" if it
    does."""

    def __init__(self, error_of: Callable[[str], str]) -> None:
        self._error_of = error_of
        self._pattern_error = lru_cache(1024)(self._find_pattern_error)

    def fit(self, text: str, source: str, *, is_strict: bool, tries: bool = False) -> FittedSchema:
        """A schema without what the compiler is known not to enforce. With `tries`, keywords that
        keep it from compiling for other reasons are left out too.

        Raises Unenforceable for a text that is no schema; with `is_strict` for everything that
        would be left out; and with `tries` for a schema that compiles in no way.
        """
        try:
            read = read_schema(_decoded(text), self._pattern_error, is_strict=is_strict)
            if tries:
                read = self._without_mistakes(read, is_strict=is_strict)
        except RecursionError as error:
            raise Unenforceable("", "it is nested too deeply") from error
        except MalformedSchema as error:
            raise Unenforceable(error.path, str(error)) from error
        if is_strict and read.left_out:
            path, reason = next(iter(read.left_out.items()))
            raise Unenforceable(path, reason, is_optional=True)
        notes = (LeftOut(source, path, reason) for path, reason in read.left_out.items())
        return FittedSchema(json.dumps(read.schema, ensure_ascii=False), tuple(notes))

    def _find_pattern_error(self, pattern: str) -> str:
        reason = self._error_of(json.dumps({"type": "string", "pattern": pattern}))
        return one_line(reason) if reason else ""

    def _without_mistakes(self, read: ReadSchema, *, is_strict: bool) -> ReadSchema:
        deadline = time.monotonic() + MAX_SECONDS
        for _ in range(MAX_TRIALS):
            reason = self._error_of(json.dumps(read.schema))
            if not reason:
                return read
            if time.monotonic() > deadline:
                break
            pointer = find_mistake(read.schema, self._error_of)
            key = self._cause(read.schema, pointer, reason)
            if key is None:
                raise Unenforceable(_origin(read, pointer), one_line(reason))
            path = _origin(read, (*pointer, key))
            if is_strict:
                raise Unenforceable(path, one_line(reason), is_optional=True)
            schema = without(read.schema, pointer, key)
            left_out = {**read.left_out, path: one_line(reason)}
            read = msgspec.structs.replace(read, schema=schema, left_out=left_out)
        raise Unenforceable("", one_line(reason))

    def _cause(self, root: dict[str, Any], pointer: Pointer, reason: str) -> str | None:
        """The keyword without which a part of the schema compiles, or has another error; None if
        there is none."""
        part = _at(root, pointer)
        better = None
        for key in _TRIED:
            if key not in part:
                continue
            error = self._error_of(json.dumps(alone(root, without(part, (), key))))
            if not error:
                return key
            if error != reason and better is None:
                better = key
        return better


def _decoded(text: str) -> dict[str, Any]:
    try:
        schema = json.loads(text)
    except ValueError as error:
        raise Unenforceable("", f"it is no JSON: {error}") from error
    if not isinstance(schema, dict):
        raise Unenforceable("", "a schema is an object")
    return schema


def _at(root: Any, pointer: Pointer) -> Any:
    for key in pointer:
        root = root[int(key)] if isinstance(root, list) else root[key]
    return root


def _origin(read: ReadSchema, pointer: Pointer) -> str:
    """The place in the original schema of a place in the rewritten one."""
    if pointer[:1] == ("$defs",):
        pointer = (*read.origins[pointer[1]], *pointer[2:])
    return path_of(pointer)
