"""Small statistics for benchmarks: plain lists of floats in, one float out."""

import math
from collections.abc import Sequence
from statistics import median

__all__ = ["mean", "median", "percentile"]


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which `percent` of the values lie, by the nearest rank; NaN of nothing."""
    if not values:
        return math.nan
    rank = max(math.ceil(len(values) * percent / 100), 1)
    return sorted(values)[rank - 1]


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean; NaN of nothing."""
    return sum(values) / len(values) if values else math.nan
