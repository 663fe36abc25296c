"""What is measured of one load of the serving benchmark. Times are in milliseconds.

A sample is one load on one server in one round: a number for each measure, by its name.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sessions import Answer, SessionsResult
from stats import mean, percentile
from workloads import LONG, NUM_TURNS, OTHERS, turn_label

PERCENTS = (50, 95, 99)

Sample = dict[str, float]


@dataclass(frozen=True)
class Measure:
    """A row of the table and how to get it from a load. Over several rounds the median counts, or,
    for a `total`, the sum."""

    name: str
    unit: str
    of: Callable[[SessionsResult], float]
    is_total: bool = False


@dataclass(frozen=True)
class Gap:
    """The time between two tokens of one answer: from `start` to `end`, seconds."""

    start: float
    end: float

    @property
    def milliseconds(self) -> float:
        return (self.end - self.start) * 1e3

    @property
    def middle(self) -> float:
        return (self.start + self.end) / 2


@dataclass(frozen=True)
class Windows:
    """Two times of a load of `Long`, in seconds: `calm_from`, when the last of the others began to
    stream, `long_from`, when the long prompt was sent, and `long_to`, when it had its first token.
    """

    calm_from: float
    long_from: float
    long_to: float


def gaps(answer: Answer) -> list[Gap]:
    """The gaps between the tokens of an answer.

    There is one for each token after the first. Where there are fewer events than tokens, some
    events carried several, and which ones is not known: the surplus is spread evenly over the
    events, and an event with k tokens makes k equal gaps.
    """
    times = answer.event_times
    num_events = len(times) - 1
    num_tokens = max(answer.completion_tokens - 1, num_events)
    found = []
    for index in range(num_events):
        before, after = (num_tokens * i // num_events for i in (index, index + 1))
        found += _split(times[index], times[index + 1], after - before)
    return found


def _split(start: float, end: float, count: int) -> list[Gap]:
    step = (end - start) / count
    return [Gap(start + i * step, start + (i + 1) * step) for i in range(count)]


def gaps_within(found: Iterable[Gap], start: float, end: float) -> list[Gap]:
    """Those gaps whose middle lies between the two times.

    Neither a gap that had begun long before nor one that ends a moment after may be lost: the
    token that ends the longest gap often comes in the same step as the one that ends the window.
    """
    return [gap for gap in found if start <= gap.middle < end]


def windows(result: SessionsResult) -> Windows | None:
    """None where one of the requests that it takes has failed."""
    long = next((answer for answer in result.answers if answer.label == LONG), None)
    firsts: dict[int, float] = {}
    for answer in result.answers:
        if answer.label == OTHERS:
            earlier = firsts.get(answer.session, math.inf)
            firsts[answer.session] = min(earlier, answer.first_text_at)
    if long is None or not firsts:
        return None
    return Windows(max(firsts.values()), long.sent_at, long.first_text_at)


def gaps_before(result: SessionsResult) -> list[Gap]:
    """Gaps of the others while all of them stream and before the long prompt comes."""
    found = windows(result)
    return gaps_within(_others(result), found.calm_from, found.long_from) if found else []


def gaps_during(result: SessionsResult) -> list[Gap]:
    """Gaps of the others while the long prompt waits for its first token."""
    found = windows(result)
    return gaps_within(_others(result), found.long_from, found.long_to) if found else []


def ttfts_during(result: SessionsResult) -> list[float]:
    """TTFT, in milliseconds, of what the others began while the long prompt waited for its first
    token. Such a request has no gaps to show as long as it waits itself."""
    found = windows(result)
    return [
        answer.ttft * 1e3
        for answer in result.answers
        if found and answer.label == OTHERS and found.long_from <= answer.sent_at < found.long_to
    ]


def _others(result: SessionsResult) -> list[Gap]:
    return [gap for answer in result.answers if answer.label == OTHERS for gap in gaps(answer)]


def take_sample(workload: str, result: SessionsResult) -> Sample:
    """All measures of a workload."""
    return {measure.name: measure.of(result) for measure in MEASURES[workload]}


def tokens_per_second(result: SessionsResult) -> float:
    """Tokens that were really generated, over the time from the first request to the last end."""
    return result.num_tokens / result.seconds


def cpu_per_token(result: SessionsResult) -> float:
    """CPU time of all the server's processes, in milliseconds a token."""
    return result.server_cpu_seconds * 1e3 / result.num_tokens if result.num_tokens else math.nan


def _all_gaps(result: SessionsResult) -> list[Gap]:
    return [gap for answer in result.answers for gap in gaps(answer)]


def _gap_percentile(
    of: Callable[[SessionsResult], list[Gap]], percent: int
) -> Callable[[SessionsResult], float]:
    return lambda result: percentile([gap.milliseconds for gap in of(result)], percent)


def _gap_measures(
    prefix: str, of: Callable[[SessionsResult], list[Gap]] = _all_gaps
) -> tuple[Measure, ...]:
    return tuple(
        Measure(f"{prefix} p{percent}", "ms", _gap_percentile(of, percent)) for percent in PERCENTS
    )


def _ttft_percentile(labels: Sequence[str], percent: int) -> Callable[[SessionsResult], float]:
    return lambda result: percentile(
        [answer.ttft * 1e3 for answer in _labelled(result, labels)], percent
    )


def _ttft_measures(
    prefix: str, labels: Sequence[str] = (), percents: Sequence[int] = PERCENTS
) -> tuple[Measure, ...]:
    return tuple(
        Measure(f"{prefix} p{percent}", "ms", _ttft_percentile(labels, percent))
        for percent in percents
    )


def _labelled(result: SessionsResult, labels: Sequence[str]) -> list[Answer]:
    """The answers with one of the labels; all of them where no label is named."""
    return [answer for answer in result.answers if not labels or answer.label in labels]


def _cached(labels: Sequence[str] = ()) -> Measure:
    return Measure(
        "cached prompt tokens, mean",
        "",
        lambda result: mean([answer.cached_tokens for answer in _labelled(result, labels)]),
    )


def _length(labels: Sequence[str] = ()) -> Measure:
    return Measure(
        "answer length, mean",
        "tokens",
        lambda result: mean([answer.completion_tokens for answer in _labelled(result, labels)]),
    )


def _during_to_before(result: SessionsResult) -> float:
    during = _gap_percentile(gaps_during, 95)(result)
    before = _gap_percentile(gaps_before, 95)(result)
    return during / before if before else math.nan


RATE = Measure("rate", "tokens/s", tokens_per_second)
CPU = Measure("server CPU", "ms/token", cpu_per_token)
FAILED = Measure("failed", "", lambda result: len(result.failures), is_total=True)
INTER_TOKEN = "inter-token"
TTFT = "TTFT"
DURING = "inter-token during"
BEFORE = "inter-token before"
DURING_TO_BEFORE = "during / before, p95"
LATER_TURNS = "TTFT turns ≥ 2"
_LATER = tuple(turn_label(turn) for turn in range(2, NUM_TURNS + 1))

_THROUGHPUT = (
    RATE,
    *_ttft_measures(TTFT),
    *_gap_measures(INTER_TOKEN),
    _cached(),
    _length(),
    CPU,
    FAILED,
)

MEASURES: Mapping[str, tuple[Measure, ...]] = {
    "short": _THROUGHPUT,
    "shared": _THROUGHPUT,
    "long": (
        *_gap_measures(BEFORE, gaps_before),
        *_gap_measures(DURING, gaps_during),
        Measure(DURING_TO_BEFORE, "", _during_to_before),
        Measure("tokens during", "", lambda result: len(gaps_during(result))),
        Measure("TTFT of the long prompt", "ms", _ttft_percentile((LONG,), 50)),
        Measure("TTFT during p95", "ms", lambda result: percentile(ttfts_during(result), 95)),
        _length((OTHERS,)),
        FAILED,
    ),
    "multiturn": (
        RATE,
        *(
            measure
            for turn in range(1, NUM_TURNS + 1)
            for measure in _ttft_measures(f"TTFT turn {turn}", (turn_label(turn),), (50,))
        ),
        *_ttft_measures(LATER_TURNS, _LATER),
        *_gap_measures(INTER_TOKEN),
        _cached(_LATER),
        _length(),
        CPU,
        FAILED,
    ),
}
"""The rows of each workload."""
