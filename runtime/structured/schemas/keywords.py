"""What the keywords of a schema may be set to, and what some values mean."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from runtime.structured.schemas.references import Pointer, path_of

TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")

BOUNDS = (
    ("minimum", "maximum"),
    ("minLength", "maxLength"),
    ("minItems", "maxItems"),
    ("minProperties", "maxProperties"),
)
"""Pairs of keywords whose first must not be greater than their second."""


class MalformedSchema(ValueError):
    """The text is no JSON schema: a keyword has a value that it cannot have."""

    def __init__(self, pointer: Pointer, problem: str) -> None:
        super().__init__(problem)
        self.path = path_of(pointer)


def check_values(part: Mapping[str, Any], pointer: Pointer) -> None:
    """Raises MalformedSchema for a keyword that has a value of another kind."""
    for key, value in part.items():
        kind = _KINDS.get(key)
        if kind is not None and not kind[1](value):
            raise MalformedSchema((*pointer, key), f"it has to be {kind[0]}")
    for name in _listed(part.get("type")):
        if name not in TYPES:
            known = ", ".join(TYPES)
            raise MalformedSchema(
                (*pointer, "type"), f"JSON has no type `{str(name)[:100]}`; it has {known}"
            )


def may_be(part: Mapping[str, Any], *types: str) -> bool:
    """Whether a value of one of these types may fit the part, by its `type`."""
    named = part.get("type")
    return named is None or any(each in types for each in _listed(named))


def restricts_nothing(part: Any, *implied: str) -> bool:
    """Whether every value fits the schema; values are known to be of the types `implied`."""
    if isinstance(part, bool):
        return part
    if not isinstance(part, dict):
        return False
    rest = {key: value for key, value in part.items() if key in RESTRICTING}
    named = rest.pop("type", None)
    return not rest and (named is None or (bool(implied) and may_be(part, *implied)))


def allows_nothing(part: Any) -> bool:
    """Whether no value fits the schema, as generators spell it."""
    if not isinstance(part, dict):
        return part is False
    return "not" in part and restricts_nothing(part["not"])


def finite_values(part: Any) -> set[Any] | None:
    """The values that fit the part, by its `enum` or `const`, in a form that can be compared; None
    if it has neither."""
    if not isinstance(part, dict):
        return None
    if "const" in part:
        return {_comparable(part["const"])}
    values = part.get("enum")
    return set(map(_comparable, values)) if isinstance(values, list) else None


def are_disjoint(sets: Iterable[set[Any] | None]) -> bool:
    """Whether no value is in two of the sets. None is a set that nothing is known about."""
    seen: set[Any] = set()
    for each in sets:
        if not each or not seen.isdisjoint(each):
            return False
        seen |= each
    return True


def type_names(part: Any) -> set[Any] | None:
    """The types that a part names, None if it names none. An integer is a number too."""
    named = part.get("type") if isinstance(part, dict) else None
    return {"number" if each == "integer" else each for each in _listed(named)} or None


RESTRICTING = frozenset(
    (
        *("type", "enum", "const", "properties", "patternProperties", "additionalProperties"),
        *("required", "minProperties", "maxProperties", "items", "prefixItems", "additionalItems"),
        *("minItems", "maxItems", "minLength", "maxLength", "pattern", "format", "minimum"),
        *("maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "anyOf", "allOf"),
        *("oneOf", "$ref", "$dynamicRef", "$recursiveRef", "not", "if", "then", "else"),
        *("contains", "minContains", "maxContains", "uniqueItems", "propertyNames"),
        *("dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties"),
        *("unevaluatedItems",),
    )
)
"""The keywords that a value can violate. All others describe."""


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _comparable(value: Any) -> Any:
    """Equal for JSON values that are equal: 1 is 1.0, but true is not 1."""
    match value:
        case bool() | None:
            return (type(value).__name__, value)
        case list():
            return ("array", *map(_comparable, value))
        case dict():
            return ("object", frozenset((key, _comparable(each)) for key, each in value.items()))
    return value


def _is_schema(value: Any) -> bool:
    return isinstance(value, dict | bool)


def _is_count(value: Any) -> bool:
    return _is_number(value) and value >= 0 and value == int(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_schema_map(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_schema, value.values()))


def _is_schema_list(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_schema, value))


def _is_text_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


_TEXT = ("a string", lambda value: isinstance(value, str))
_COUNT = ("a whole number that is not negative", _is_count)
_NUMBER = ("a number", _is_number)
_NUMBER_OR_BOOL = ("a number", lambda value: _is_number(value) or isinstance(value, bool))
_SCHEMA = ("a schema: an object, true or false", _is_schema)
_SCHEMAS = ("a list of schemas", _is_schema_list)
_SCHEMA_MAP = ("an object with a schema for each name", _is_schema_map)
_LIST = ("a list", lambda value: isinstance(value, list))

_KINDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "type": ("the name of a type, or a list of names", lambda value: isinstance(value, str | list)),
    "enum": _LIST,
    "properties": _SCHEMA_MAP,
    "patternProperties": _SCHEMA_MAP,
    "additionalProperties": _SCHEMA,
    "required": ("a list of names", lambda value: isinstance(value, bool) or _is_text_list(value)),
    "items": ("a schema", lambda value: _is_schema(value) or _is_schema_list(value)),
    "additionalItems": _SCHEMA,
    "prefixItems": _SCHEMAS,
    "anyOf": _SCHEMAS,
    "allOf": _SCHEMAS,
    "oneOf": _SCHEMAS,
    "pattern": _TEXT,
    "format": _TEXT,
    "$ref": _TEXT,
    "minimum": _NUMBER,
    "maximum": _NUMBER,
    "exclusiveMinimum": _NUMBER_OR_BOOL,
    "exclusiveMaximum": _NUMBER_OR_BOOL,
    "multipleOf": ("a number greater than 0", lambda value: _is_number(value) and value > 0),
    **{key: _COUNT for pair in BOUNDS[1:] for key in pair},
}
"""The kind of value of each keyword, in words and as a test."""
