"""JSON schemas of arguments with no room for what they do not name. Pure.

A schema that says nothing of `additionalProperties` allows any, and a small model makes them up.
Whoever describes a function's parameters means these; OpenAI's strict mode and xgrammar take it so.
"""

from collections.abc import Mapping
from typing import Any

_SAYS = (
    *("additionalProperties", "patternProperties", "unevaluatedProperties", "$ref", "$dynamicRef"),
    *("allOf", "anyOf", "oneOf", "not", "if", "dependentSchemas"),
)
"""An object schema with one of these is left as it is: closing it could forbid what it wants."""

_BY_NAME = ("properties", "$defs", "definitions")
_LISTS = ("anyOf", "oneOf", "prefixItems")
_SINGLE = ("items", "additionalProperties")


def closed(schema: Any) -> Any:
    """A copy in which every object that names its properties has these alone."""
    if not isinstance(schema, Mapping):
        return schema
    names = isinstance(schema.get("properties"), Mapping)
    result = {key: _part(key, value, is_whole=not names) for key, value in schema.items()}
    if names and not any(key in schema for key in _SAYS):
        result["additionalProperties"] = False
    return result


def _part(key: str, value: Any, *, is_whole: bool) -> Any:
    """`is_whole`: the branches of a choice stand for the object, not beside its properties."""
    if key in _BY_NAME and isinstance(value, Mapping):
        return {name: closed(schema) for name, schema in value.items()}
    if key in _LISTS and isinstance(value, list) and is_whole:
        return [closed(schema) for schema in value]
    if key in _SINGLE:
        return closed(value)
    return value
