"""Whether a value can fit two alternatives of `oneOf` at once."""

from collections.abc import Callable, Sequence
from typing import Any

from runtime.structured.schemas.keywords import are_disjoint, finite_values, type_names

MAX_TRIED = 20
"""Number of properties that are looked at for different values."""

PropertyOf = Callable[[int, str], Any]
"""The schema of a property, by the alternative's number and the property's name."""


def are_exclusive(alternatives: Sequence[Any], property_of: PropertyOf) -> bool:
    """Whether it is plain that no value fits two of these schemas: their types differ, their values
    are listed, or they are objects with a required property whose values differ."""
    if are_disjoint(map(type_names, alternatives)) or are_disjoint(
        map(finite_values, alternatives)
    ):
        return True
    names = _required(alternatives[0]) if alternatives else []
    return any(
        are_told_apart(alternatives, name, property_of)
        for name in names[:MAX_TRIED]
        if all(name in _required(each) for each in alternatives)
    )


def are_told_apart(alternatives: Sequence[Any], name: str, property_of: PropertyOf) -> bool:
    """Whether these are objects in which the property `name` has different values, if it is
    there."""
    if not all(isinstance(each, dict) and each.get("type") == "object" for each in alternatives):
        return False
    return are_disjoint(
        finite_values(property_of(number, name)) for number in range(len(alternatives))
    )


def _required(part: Any) -> list[Any]:
    required = part.get("required") if isinstance(part, dict) else None
    return required if isinstance(required, list) else []
