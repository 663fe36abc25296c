"""How large a `multipleOf` is for the compiler."""

import math
from decimal import Decimal
from typing import Any

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
