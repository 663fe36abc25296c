"""How large a `multipleOf` is for the compiler, and the few numbers that it may leave."""

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from runtime.structured.schemas.numbers import BOUNDS, unheeded_bounds

MAX_DIVISOR = 200_000
"""The largest whole `multipleOf` that is tried, without its factors of 2 and 5: the automaton that
finds the numbers it divides has as many states."""


def digits_of(value: Any) -> int:
    """All digits of a number as one integer; 0 for what is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return 0
    if isinstance(value, int):
        return abs(value)
    if not math.isfinite(value):
        return 0
    return int("".join(map(str, Decimal(str(value)).normalize().as_tuple().digits)))


def num_states_of(value: Any) -> int:
    """At least so many states come from a `multipleOf`, as far as its value alone tells."""
    if isinstance(value, float) and not value.is_integer():
        return 0
    num_states = digits_of(value)
    if num_states > 10**40:
        return num_states
    for factor in (5, 2):
        while num_states and num_states % factor == 0:
            num_states //= factor
    return num_states


MAX_STEPS = 1000
"""Most multiples between two bounds that are listed one by one."""


def listed_steps(part: Mapping[str, Any], *, whole: bool) -> Sequence[int | float]:
    """The multiples of a fractional `multipleOf` between the bounds of a part, where the compiler
    would get them wrong: it finds none if there is one, and does not heed all exclusive bounds.
    With `whole` only integers count."""
    step = part.get("multipleOf")
    if not isinstance(step, float) or not all(math.isfinite(part.get(key, step)) for key in BOUNDS):
        return ()
    first, last = _multiples(part, _exact(step))
    num_steps, is_heeded = last - first + 1, not any(unheeded_bounds(part))
    if step.is_integer() or num_steps > MAX_STEPS or (is_heeded and num_steps != 1):
        return ()
    values = [multiple * _exact(step) for multiple in range(first, last + 1)]
    return [
        int(value) if value.denominator == 1 else float(value)
        for value in values
        if value.denominator == 1 or not whole
    ]


def _multiples(part: Mapping[str, Any], step: Fraction) -> tuple[int, int]:
    """The first and the last number that the step may be multiplied by; none unless there are
    bounds on both sides."""
    quotients = {key: _exact(part[key]) / step for key in BOUNDS if key in part}
    least = [math.ceil(each) for key, each in quotients.items() if key == "minimum"]
    least += [math.floor(each) + 1 for key, each in quotients.items() if key == "exclusiveMinimum"]
    most = [math.floor(each) for key, each in quotients.items() if key == "maximum"]
    most += [math.ceil(each) - 1 for key, each in quotients.items() if key == "exclusiveMaximum"]
    return (max(least), min(most)) if least and most else (0, -1)


def _exact(value: float) -> Fraction:
    """A number as it is written."""
    return Fraction(str(value))
