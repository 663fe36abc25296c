"""JSON schemas of arguments that forbid properties they do not name. Pure.

A schema without `additionalProperties` allows any property, and a small model makes some up. The
author of a function's parameters means only the named ones; OpenAI's strict mode and xgrammar read
schemas that way.
"""

from collections.abc import Iterable
from typing import Any

_SAYS = ("additionalProperties", "patternProperties", "unevaluatedProperties")
"""An object with one of these keywords declares itself which properties it allows."""

_BESIDE = ("$ref", "$dynamicRef", "anyOf", "oneOf", "not", "if", "dependentSchemas")
"""Keywords that may add properties to those in `properties`."""

_BY_NAME = ("properties", "$defs", "definitions")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_SINGLE = ("items", "additionalProperties")


def closed(schema: Any) -> Any:
    """A copy in which every object that names its properties allows only these.

    A schema that combines objects from parts is left as it is: a closed part would forbid the
    properties of the other parts, wherever the part is defined.
    """
    return schema if _combines(schema) else _closed(schema)


def _combines(schema: Any) -> bool:
    if not isinstance(schema, dict):
        return False
    has_names = "properties" in schema
    if has_names and any(key in schema for key in _BESIDE):
        return True
    parts = schema.get("allOf")
    if isinstance(parts, list) and (has_names or len(parts) > 1):
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
    names = isinstance(schema.get("properties"), dict)
    if names and not any(key in schema for key in _SAYS):
        result["additionalProperties"] = False
    return result


def _closed_part(key: str, value: Any) -> Any:
    if key in _BY_NAME and isinstance(value, dict):
        return {name: _closed(schema) for name, schema in value.items()}
    if key in _LISTS and isinstance(value, list):
        return [_closed(schema) for schema in value]
    return _closed(value) if key in _SINGLE else value
