"""Ours against a peer: medians over rounds, ratios within rounds, and targets."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from measures import (
    DURING,
    DURING_TO_BEFORE,
    FAILED,
    LATER_TURNS,
    MEASURES,
    RATE,
    Measure,
    Sample,
)
from stats import median

OURS = "lockgate"
PEER = "llama-server"

Samples = Mapping[str, Sequence[Sample]]
"""By server, one for each round."""


@dataclass(frozen=True)
class Target:
    """What a measure should come to. `of` says whether the ratio ours / peer is meant or our own
    value; `streams` are the numbers of streams it is set for, none meaning all of them."""

    workload: str
    measure: str
    kind: Literal["at least", "at most"]
    limit: float
    of: Literal["ratio", "ours"] = "ratio"
    streams: tuple[int, ...] = ()

    def is_met(self, value: float) -> bool:
        """NaN meets nothing."""
        return value >= self.limit if self.kind == "at least" else value <= self.limit

    def __str__(self) -> str:
        sign = "≥" if self.kind == "at least" else "≤"
        return f"{self.of} {sign} {self.limit:g}"


TARGETS = (
    Target("short", RATE.name, "at least", 1.25, streams=(1,)),
    Target("short", RATE.name, "at least", 1.4, streams=(4, 8, 16)),
    Target("shared", RATE.name, "at least", 7.0, streams=(8,)),
    Target("long", f"{DURING} p95", "at most", 0.5),
    Target("long", DURING_TO_BEFORE, "at most", 3.0, of="ours"),
    Target("multiturn", f"{LATER_TURNS} p50", "at most", 0.85),
    *(Target(workload, FAILED.name, "at most", 0.0, of="ours") for workload in MEASURES),
)


@dataclass(frozen=True)
class Row:
    """One measure of one load.

    `ours` and `peer` are medians over the rounds, of failures sums; `ratio` is the median of the
    rounds' ratios ours / peer. They are None where there is no such value. `is_met` is None where
    there is no target, or nothing to hold against it.
    """

    workload: str
    streams: int
    measure: str
    unit: str
    ours: float | None
    peer: float | None
    ratio: float | None
    target: str = ""
    is_met: bool | None = None


def compare(workload: str, streams: int, samples: Samples) -> list[Row]:
    """A row for each measure of the workload."""
    return [_row(workload, streams, measure, samples) for measure in MEASURES[workload]]


def _row(workload: str, streams: int, measure: Measure, samples: Samples) -> Row:
    ours, peer = (
        [sample[measure.name] for sample in samples.get(server, ())] for server in (OURS, PEER)
    )
    over_rounds = total if measure.is_total else middle
    row = Row(
        workload,
        streams,
        measure.name,
        measure.unit,
        ours=over_rounds(ours),
        peer=over_rounds(peer),
        ratio=middle([_ratio(a, b) for a, b in zip(ours, peer, strict=False)]),
    )
    target = find_target(workload, measure.name, streams)
    if target is None:
        return row
    value = row.ratio if target.of == "ratio" else row.ours
    has_both = bool(ours) and (bool(peer) or target.of == "ours")
    is_met = value is not None and target.is_met(value) if has_both else None
    return replace(row, target=str(target), is_met=is_met)


def find_target(workload: str, measure: str, streams: int) -> Target | None:
    """The target that is set for a measure, if one is."""
    for target in TARGETS:
        if (target.workload, target.measure) == (workload, measure) and (
            not target.streams or streams in target.streams
        ):
            return target
    return None


def _ratio(ours: float, peer: float) -> float:
    return ours / peer if peer else math.nan


def middle(values: Sequence[float]) -> float | None:
    """The median of the numbers among the values; None where there are none."""
    numbers = [value for value in values if not math.isnan(value)]
    return median(numbers) if numbers else None


def total(values: Sequence[float]) -> float | None:
    """The sum; None of nothing."""
    return sum(values) if values else None
