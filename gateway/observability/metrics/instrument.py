"""What a metric is: a family in the exposition, and the instrument that counts for it.

An instrument carries its family, and `exposition` walks over the instruments. So a metric that is
counted is one attribute of a group of instruments, and a metric that is read is one entry of
`readings`. docs/metrics.md has a table of all families for people.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

from msgspec import Struct, structs

Kind = Literal["info", "gauge", "counter", "histogram"]

MODEL = ("model_name",)
"""Labels of a family that has one series for each model."""

Sample: TypeAlias = tuple[Sequence[str], Any]
"""One series: its label values, and a number or a `Histogram`. What belongs to one model leaves out
the model's name, which the exposition puts first."""


class Family(Struct, frozen=True):
    """One metric. `labels` without `le`.

    Names end as vLLM's do where vLLM has the same thing; the `gen_ai` ones are OpenTelemetry's
    GenAI server metrics as Prometheus spells them. A counter's `_total` is added to its name, as in
    the exposition format.
    """

    name: str
    kind: Kind
    documentation: str
    labels: tuple[str, ...] = MODEL


class Instrument(ABC):
    """Counts, and carries the family that it counts for."""

    __slots__ = ()

    family: Family

    @abstractmethod
    def samples(self) -> Iterable[Sample]:
        """The present value of each series."""


class InstrumentGroup:
    """Holds instruments, and other groups, as attributes."""

    def walk(self) -> Iterator[Instrument]:
        """Every instrument of the group and of its groups, in the order of the attributes."""
        for value in vars(self).values():
            if isinstance(value, Instrument):
                yield value
            elif isinstance(value, InstrumentGroup):
                yield from value.walk()


def label_values(key: str | Struct) -> tuple[str, ...]:
    """The label values of a key: the key itself, or each of its fields in order."""
    return (key,) if isinstance(key, str) else tuple(map(str, structs.astuple(key)))
