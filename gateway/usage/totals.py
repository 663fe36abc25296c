"""What each key has used of each model in a day and in a month."""

from collections.abc import Mapping

from gateway.store.usage import Counts, UsageKey
from gateway.usage.periods import DAY, Period, start_of

KEPT_DAYS = 70
"""Days after which a day or a month is forgotten: longer than a month and a clock that is wrong."""

NOTHING: Mapping[str, Counts] = {}


class Totals:
    """Belongs to one event loop. `was_read` says whether anybody has asked."""

    def __init__(self) -> None:
        self.was_read = False
        self._used: dict[tuple[Period, int], dict[str, dict[str, Counts]]] = {}

    def add(self, key: UsageKey, counts: Counts) -> None:
        for period in ("day", "month"):
            start = start_of(period, key.hour)
            if (period, start) not in self._used:
                self._forget(start - KEPT_DAYS * DAY)
            owners = self._used.setdefault((period, start), {})
            models = owners.setdefault(key.owner, {})
            models[key.model] = models.get(key.model, Counts()) + counts

    def of(self, owner: str, period: Period, time: float) -> Mapping[str, Counts]:
        """What the owner has used by model, in the day or the month of this time."""
        self.was_read = True
        return self._used.get((period, start_of(period, time)), {}).get(owner, NOTHING)

    def _forget(self, before: int) -> None:
        self._used = {
            (period, start): owners
            for (period, start), owners in self._used.items()
            if start >= before
        }
