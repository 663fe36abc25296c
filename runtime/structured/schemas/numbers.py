"""Numbers that the compiler does not tell from their neighbours."""

from collections.abc import Iterator, Mapping
from typing import Any

MAX_EXACT = 2**53
"""The compiler reads every number as a double, which has no odd integers beyond this."""

BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def is_rounded(value: Any) -> bool:
    """Whether a JSON value has an integer that the compiler would round."""
    match value:
        case bool() | None | str():
            return False
        case int():
            return abs(value) > MAX_EXACT
        case list():
            return any(map(is_rounded, value))
        case dict():
            return any(map(is_rounded, value.values()))
    return False


def unheeded_bounds(part: Mapping[str, Any]) -> Iterator[str]:
    """The exclusive bounds that the compiler takes for inclusive ones: whole numbers less than one
    away from the other bound."""
    least = [part[key] for key in ("minimum", "exclusiveMinimum") if key in part]
    most = [part[key] for key in ("maximum", "exclusiveMaximum") if key in part]
    if not least or not most or min(most) - max(least) >= 1:
        return
    for key in ("exclusiveMinimum", "exclusiveMaximum"):
        if key in part and part[key] == int(part[key]):
            yield key
