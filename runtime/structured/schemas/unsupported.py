"""The keywords and formats that the compiler cannot enforce, and when that changes nothing."""

from collections.abc import Callable, Mapping
from typing import Any

from runtime.structured.schemas.keywords import allows_nothing, may_be, restricts_nothing

FORMATS = frozenset(
    (
        *("date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uri"),
        *("uuid", "unknown"),
    )
)
"""The formats that are enforced."""

DESCRIBING_FORMATS = frozenset(
    (
        *("", "binary", "directory-path", "file-path", "markdown", "multiline", "password"),
        *("path", "string", "text", "textarea"),
    )
)
"""Formats that any text has: they say what to do with it."""

_Harmless = Callable[[Any, Mapping[str, Any]], bool]


def _is_harmless_if(_: Any, part: Mapping[str, Any]) -> bool:
    return all(restricts_nothing(part.get(key, True)) for key in ("then", "else"))


def _is_harmless_contains(value: Any, part: Mapping[str, Any]) -> bool:
    return not may_be(part, "array") or (
        part.get("minContains") == 0 and ("maxContains" not in part or allows_nothing(value))
    )


def _is_harmless_unique(value: Any, part: Mapping[str, Any]) -> bool:
    return value is not True or not may_be(part, "array") or part.get("maxItems") in (0, 1)


def _is_harmless_for_objects(value: Any, part: Mapping[str, Any]) -> bool:
    return not may_be(part, "object") or not value


def _is_harmless_schema(value: Any, _: Mapping[str, Any]) -> bool:
    return restricts_nothing(value)


UNSUPPORTED: Mapping[str, _Harmless] = {
    "not": lambda value, _: allows_nothing(value),
    "if": _is_harmless_if,
    "contains": _is_harmless_contains,
    "uniqueItems": _is_harmless_unique,
    "propertyNames": lambda value, part: (
        not may_be(part, "object") or restricts_nothing(value, "string")
    ),
    "dependentRequired": _is_harmless_for_objects,
    "dependentSchemas": _is_harmless_for_objects,
    "dependencies": _is_harmless_for_objects,
    "unevaluatedProperties": _is_harmless_schema,
    "unevaluatedItems": _is_harmless_schema,
}
"""Keywords that cannot be enforced. Each has a test whether its value, in its schema, restricts
nothing."""

COMPANIONS = ("then", "else", "minContains", "maxContains")
"""Keywords without meaning when another has been left out."""


def is_harmless_format(name: str) -> bool:
    """Whether every text has this format."""
    return name in DESCRIBING_FORMATS
