"""Counters: numbers that only grow."""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from msgspec import Struct

from gateway.observability.metrics.instrument import (
    Family,
    Instrument,
    Kind,
    Sample,
    label_values,
)

K = TypeVar("K", bound=str | Struct)


class Counter(Instrument):
    """One number. Counting is `counter.value += 1`, without a call."""

    __slots__ = ("family", "value")

    def __init__(self, name: str, documentation: str) -> None:
        self.family = Family(name, "counter", documentation)
        self.value = 0

    def samples(self) -> list[Sample]:
        return [((), self.value)]


class Reported(Instrument):
    """One number without labels that something else counts; `read` returns it."""

    __slots__ = ("family", "read")

    def __init__(self, name: str, documentation: str, kind: Kind = "counter") -> None:
        self.family = Family(name, kind, documentation, ())
        self.read: Callable[[], int] = lambda: 0

    def samples(self) -> list[Sample]:
        return [((), self.read())]


class ReportedBy(Instrument):
    """Numbers by one label that something else counts; `read` returns them. The series of `keys`
    are exported as 0 until then."""

    __slots__ = ("family", "read")

    def __init__(self, name: str, documentation: str, label: str, keys: Iterable[str]) -> None:
        self.family = Family(name, "counter", documentation, (label,))
        zeros = dict.fromkeys(keys, 0)
        self.read: Callable[[], Mapping[str, int]] = lambda: zeros

    def samples(self) -> list[Sample]:
        return [((key,), number) for key, number in self.read().items()]


class Total(Instrument):
    """The sum of other counters, computed when it is read."""

    __slots__ = ("_counters", "family")

    def __init__(self, name: str, documentation: str, *counters: Counter) -> None:
        self.family = Family(name, "counter", documentation)
        self._counters = counters

    def samples(self) -> list[Sample]:
        return [((), sum(counter.value for counter in self._counters))]


class LabelledCounter(dict[K, int], Instrument):
    """One number for each key: `counter[key] += 1` also counts a new key.

    A key is a label's value, or a Struct with a field for each label. The series of `keys` are
    exported as 0 from the start.
    """

    __slots__ = ("family",)

    def __init__(
        self, name: str, documentation: str, labels: tuple[str, ...], keys: Iterable[K] = ()
    ) -> None:
        super().__init__(dict.fromkeys(keys, 0))
        self.family = Family(name, "counter", documentation, labels)

    def __missing__(self, key: K) -> int:
        return 0

    def samples(self) -> list[Sample]:
        return [(label_values(key), count) for key, count in self.items()]
