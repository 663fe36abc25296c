"""JSON schemas of arguments that forbid properties they do not name. Pure.

A schema without `additionalProperties` allows any property, and a small model makes some up. The
author of a function's parameters means only the named ones; OpenAI's strict mode and xgrammar read
schemas that way. An object that names no property at all is free: its author leaves it open, as
many generators do by an empty `properties`.
"""

from collections.abc import Iterable
from typing import Any

_SAYS = ("additionalProperties", "patternProperties", "unevaluatedProperties")
"""An object with one of these keywords declares itself which properties it allows."""

_PARTS = ("$ref", "$dynamicRef", "$recursiveRef", "anyOf", "oneOf")
_BESIDE = ("not", "if", "dependentSchemas", "dependencies")
"""Keywords with schemas for the same object: those that stand for one, and those that speak of
properties beside others."""

_BY_NAME = ("properties", "patternProperties", "$defs", "definitions")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_SINGLE = ("items", "additionalItems", "additionalProperties")


def closed(schema: Any) -> Any:
    """A copy in which every object that names its properties allows only these, and those that it
    requires.

    A schema that combines objects from parts is left as it is: a closed part would forbid the
    properties of the other parts, wherever the part is defined.
    """
    return schema if _combines(schema) else _closed(schema)


def _combines(schema: Any) -> bool:
    if not isinstance(schema, dict):
        return False
    has_names = bool(schema.get("properties"))
    parts = schema.get("allOf")
    num_parts = sum(key in schema for key in _PARTS)
    num_parts += len(parts) if isinstance(parts, list) else 0
    if num_parts + has_names > 1 or (has_names and any(key in schema for key in _BESIDE)):
        return True
    return any(_combines(part) for key, value in schema.items() for part in _parts(key, value))


def _parts(key: str, value: Any) -> Iterable[Any]:
    """The schemas under a keyword."""
    if key in _BY_NAME and isinstance(value, dict):
        return value.values()
    if key in _LISTS and isinstance(value, list):
        return value
    return (value,) if key in _SINGLE else ()


def _closed(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    result = {key: _closed_part(key, value) for key, value in schema.items()}
    names = schema.get("properties")
    says = any(schema.get(key) is not None for key in _SAYS)
    if isinstance(names, dict) and names and not says:
        result["properties"] |= {name: {} for name in _required(schema) if name not in names}
        result["additionalProperties"] = False
    return result


def _required(schema: dict[str, Any]) -> list[str]:
    required = schema.get("required")
    if not isinstance(required, list):
        return []
    return [name for name in required if isinstance(name, str)]


def _closed_part(key: str, value: Any) -> Any:
    if key in _BY_NAME and isinstance(value, dict):
        return {name: _closed(schema) for name, schema in value.items()}
    if key in _LISTS and isinstance(value, list):
        return [_closed(schema) for schema in value]
    return _closed(value) if key in _SINGLE else value
