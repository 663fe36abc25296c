"""Deletes what is too old, and the oldest where there is too much, in small steps."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

import structlog
from msgspec import Struct

from gateway.settings.schema import StoreSettings
from gateway.store.upkeep.kinds import AGEING, ObjectKind, delete_whole
from gateway.store.upkeep.maintained import Aged, Maintained, Which

log = structlog.get_logger(__name__)

INTERVAL = 3600.0
"""Seconds between two rounds."""

STEP_SECONDS = 0.01
"""How long a step works before others may store something again."""

GROWTH = 0.01
"""Share of the largest size after which it is looked at again, whatever the time."""

KEPT_FREE = 0.05
"""Share of the file that stays free for what comes next."""

_AT_ONCE = 100
_DAY = 86_400.0

Reason = Literal["age", "size"]


class Limits(Struct, frozen=True):
    """How many seconds objects are kept, and how many bytes all records may take; 0 is for ever,
    and any number."""

    keep_seconds: float = 0.0
    max_bytes: int = 0

    @staticmethod
    def of(settings: StoreSettings) -> "Limits":
        return Limits(settings.keep_days * _DAY, round(settings.max_gb * 1e9))


class Sweep:
    """Belongs to the thread that writes; `use` alone may be called by others. A round begins at the
    start, after each hour, when the limits change and when much was stored. It has as many steps as
    it needs.

    `num_deleted` counts objects by reason, and `num_rounds` those that are over.
    """

    def __init__(
        self,
        limits: Limits,
        kinds: Sequence[ObjectKind] = AGEING,
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`now` is in seconds since 1970, and `clock` never goes back."""
        self._limits = limits
        self._kinds = {each.kind: each for each in kinds}
        self._now = now
        self._clock = clock
        self._due = clock()
        self._num_written = 0
        self._of_round: Counter[Reason] = Counter()
        self._is_over = False
        self.num_deleted: dict[str, int] = {"age": 0, "size": 0}
        self.num_rounds = 0

    def use(self, limits: Limits) -> None:
        """Takes other limits. The next step begins a round."""
        self._limits = limits
        self._due = self._clock()

    def seconds_left(self) -> float:
        """Until the next step is due."""
        return max(0.0, self._due - self._clock())

    def wrote(self, num_bytes: int) -> None:
        """Notes that so much was stored."""
        self._num_written += num_bytes
        if 0 < self._limits.max_bytes * GROWTH <= self._num_written:
            self._due = min(self._due, self._clock())

    def step(self, database: Maintained) -> None:
        """Does some of what is due, in one transaction. What fails is logged, and tried again in
        the next round."""
        limits = self._limits
        try:
            if self._deletes_some(database, limits) or self._gives_back(database):
                return
            self._tell(database.num_bytes(), limits)
        except Exception as error:
            log.warning("sweep_failed", reason=str(error))
        self.num_rounds += 1
        self._num_written = 0
        if limits is self._limits:
            self._due = self._clock() + INTERVAL

    def _deletes_some(self, database: Maintained, limits: Limits) -> bool:
        """Whether it has."""
        deleted, end = Counter[Reason](), self._clock() + STEP_SECONDS
        candidates = self._oldest(database)
        if not candidates or self._reason(database, candidates[0], limits) is None:
            return False
        with database.transaction():
            for each in candidates:
                reason = self._reason(database, each, limits)
                if reason is None or (deleted and self._clock() >= end):
                    break
                delete_whole(database, self._kinds[each.kind], each.id)
                deleted[reason] += 1
        self._count(deleted)
        return True

    def _oldest(self, database: Maintained) -> list[Aged]:
        """Some of all kinds, and none that is younger than one left out."""
        found = [database.oldest(Which([kind]), _AT_ONCE) for kind in self._kinds]
        together = sorted((each for some in found for each in some), key=lambda a: a.created_at)
        return together[:_AT_ONCE]

    def _reason(self, database: Maintained, object: Aged, limits: Limits) -> Reason | None:
        if limits.keep_seconds and object.created_at < self._now() - limits.keep_seconds:
            return "age"
        if limits.max_bytes and database.num_bytes() > limits.max_bytes:
            return "size"
        return None

    def _gives_back(self, database: Maintained) -> bool:
        with database.transaction():
            return database.give_back(KEPT_FREE, STEP_SECONDS)

    def _count(self, deleted: Counter[Reason]) -> None:
        for reason, number in deleted.items():
            self.num_deleted[reason] += number
        self._of_round += deleted

    def _tell(self, num_bytes: int, limits: Limits) -> None:
        """One line about a round that has deleted something. What cannot be kept is said once."""
        if self._of_round:
            old, over = self._of_round["age"], self._of_round["size"]
            log.info("store_swept", num_old=old, num_over_size=over, num_bytes=num_bytes)
        self._of_round.clear()
        is_over = 0 < limits.max_bytes < num_bytes
        if is_over and not self._is_over:
            log.warning("store_too_large", num_bytes=num_bytes, max_bytes=limits.max_bytes)
        self._is_over = is_over
