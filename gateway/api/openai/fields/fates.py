"""What may become of a field that an endpoint does not declare. Pure."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from msgspec import Struct

NOTHING: tuple[Any, ...] = (None, False, "", [], {})
"""Values that ask for nothing, whatever the field."""


class Alias(Struct, frozen=True):
    """Another name of the first of `names` that the endpoint has. A value of `unset` is the same as
    leaving the field out."""

    names: tuple[str, ...]
    unset: tuple[Any, ...] = ()


class Spread(Struct, frozen=True):
    """A field that says what other fields say here. Its value is of the type `kind`, and `fields`
    makes the other fields' values of it."""

    kind: Any
    fields: Callable[[Any], Mapping[str, Any]]


class Refused(Struct, frozen=True):
    """A field that would change the answer: refused unless null or a value of `neutral`, which ask
    for nothing. `advice` says what to do instead."""

    neutral: tuple[Any, ...] = ()
    advice: str = "Leave it out."


class Hint(Struct, frozen=True):
    """A field that changes nothing that is said, so it is taken and reported. `reason` says why it
    has no effect."""

    reason: str


class Repeated(Struct, frozen=True):
    """A field of OpenAI's answers that clients send back. It is taken without a word."""


Fate: TypeAlias = Alias | Spread | Refused | Hint | Repeated


def is_one_of(value: Any, values: tuple[Any, ...]) -> bool:
    """Whether a value from JSON is equal to one of these. In Python, but not in JSON, true is 1."""
    return any(
        value == each and isinstance(value, bool) == isinstance(each, bool) for each in values
    )
