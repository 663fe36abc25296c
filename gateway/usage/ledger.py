"""What requests have used, in memory at first and in the store soon after."""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

import structlog
from msgspec import Struct

from gateway.observability.answer_record import AnswerRecord
from gateway.store.database import Database
from gateway.store.store import Store
from gateway.store.usage import Counts, UsageKey, UsageQuery
from gateway.usage.periods import DAY, end_of, hour_of, start_of
from gateway.usage.totals import KEPT_DAYS, Totals

log = structlog.get_logger(__name__)

WRITE_SECONDS = 1.0
"""Seconds between two writes to the store: what a killed server has counted since is lost."""

REFRESH_SECONDS = 60.0
"""Seconds after which totals that were asked for are read again: other servers may use the store,
too."""

T = TypeVar("T")
Sums = Mapping[UsageKey, Counts]


class Account(Struct, frozen=True):
    """Whom a request's tokens are counted for. `owner` is the name of a key, and `endpoint` the
    path of a route."""

    owner: str
    model: str
    endpoint: str
    is_batch: bool = False


class _Batch(Struct, frozen=True):
    """Sums that are being written, under a number, so that they are never added twice."""

    number: int
    sums: Sums


class Ledger:
    """Belongs to one event loop. Without a store the sums stay in memory, for `KEPT_DAYS` days.

    `totals` has what each key has used in days and months. `since` is when the counting in memory
    began, in seconds since 1970; None if a store keeps the sums.
    """

    def __init__(self, store: Store | None, clock: Callable[[], float] = time.time) -> None:
        self.totals = Totals()
        self.clock = clock
        self.since = None if store is not None else clock()
        self._store = store
        self._writer = secrets.token_hex(8)
        self._pending: dict[UsageKey, Counts] = {}
        self._batch: _Batch | None = None
        self._last_number = 0
        self._writing = asyncio.Lock()
        self._is_failing = False
        self._newest_hour = 0

    async def open(self) -> None:
        """Reads the totals of this month from the store."""
        if self._store is None:
            log.warning("usage_in_memory", reason="store.enabled is false")
        await self.refresh()

    def add(self, account: Account, record: AnswerRecord) -> None:
        """Counts what an answer that is over has used; nothing of one that never began."""
        counts = counts_of(record)
        if not counts.num_requests:
            return
        hour = hour_of(self.clock())
        key = UsageKey(hour, account.owner, account.model, account.endpoint, account.is_batch)
        self._pending[key] = self._pending.get(key, Counts()) + counts
        self.totals.add(key, counts)
        if hour > self._newest_hour and self._store is None:
            self._forget(hour)

    async def flush(self) -> None:
        """Writes what is not stored yet. Raises StoreFull and StoreUnavailable; nothing is lost
        then."""
        async with self._writing:
            while self._store is not None and (self._batch or self._pending):
                batch = self._batch = self._batch or self._next_batch()
                change = partial(_add, self._writer, batch)
                await self._store.write(change)
                self._batch = None

    async def ask(self, query: UsageQuery, answer: Callable[[Sums], T]) -> T:
        """What `answer`, which is called in a thread, makes of the sums that the query wants. No
        request that has ended before is missing or counted twice."""
        async with self._writing:
            pending = dict(self._pending)
            if self._store is None:
                return await asyncio.to_thread(lambda: answer(selected(query, pending)))
            question = partial(_all_sums, query, self._writer, self._batch, pending)
            return await self._store.read(lambda database: answer(question(database)))

    async def refresh(self) -> None:
        """Reads the totals again. Raises StoreUnavailable."""
        now = self.clock()
        query = UsageQuery(start_of("month", now), end_of("month", now), seconds=DAY)
        async with self._writing:
            if self._store is None:
                return
            known = partial(_all_sums, query, self._writer, self._batch, {})
            sums = await self._store.read(known)
            totals = Totals()
            for key, counts in [*sums.items(), *self._pending.items()]:
                totals.add(key, counts)
            self.totals = totals

    async def run(self) -> None:
        """Writes every second, and reads the totals every minute, until it is cancelled."""
        refreshed = time.monotonic()
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            try:
                await self.flush()
                if self.totals.was_read and time.monotonic() - refreshed > REFRESH_SECONDS:
                    refreshed = time.monotonic()
                    await self.refresh()
                self._is_failing = False
            except Exception as error:  # whatever it is, the sums are tried again
                if not self._is_failing:
                    log.warning("usage_not_stored_yet", reason=str(error))
                self._is_failing = True

    async def close(self) -> None:
        """Writes what is left. What cannot be stored is logged."""
        try:
            await self.flush()
        except Exception as error:
            batch = {} if self._batch is None else self._batch.sums
            lost = sum([*batch.values(), *self._pending.values()], Counts())
            log.error(
                "usage_lost",
                reason=str(error),
                num_requests=lost.num_requests,
                num_tokens=lost.total_tokens,
            )

    def _next_batch(self) -> _Batch:
        self._last_number += 1
        batch = _Batch(self._last_number, self._pending)
        self._pending = {}
        return batch

    def _forget(self, hour: int) -> None:
        self._newest_hour = hour
        first = hour - KEPT_DAYS * DAY
        self._pending = {key: each for key, each in self._pending.items() if key.hour >= first}


def counts_of(record: AnswerRecord) -> Counts:
    """What one answer has used, once it is over. One that was given up before its first sign has
    used nothing."""
    used = record.prompt_tokens + record.completion_tokens
    return Counts(
        num_requests=int(bool(used) or record.outcome == "completed"),
        input_tokens=record.prompt_tokens,
        cached_tokens=record.cached_tokens,
        output_tokens=record.completion_tokens,
        reasoning_tokens=record.reasoning_tokens,
    )


def selected(query: UsageQuery, sums: Sums) -> dict[UsageKey, Counts]:
    """What `Database.find_usage` would find if these were stored."""
    found: dict[UsageKey, Counts] = {}
    for key, counts in sums.items():
        if query.start <= key.hour < query.end and query.owner in (None, key.owner):
            since = key.hour - key.hour % query.seconds
            place = UsageKey(since, key.owner, key.model, key.endpoint, key.is_batch)
            found[place] = found.get(place, Counts()) + counts
    return found


def _add(writer: str, batch: _Batch, database: Database) -> None:
    database.add_usage(writer, batch.number, batch.sums)


def _all_sums(
    query: UsageQuery, writer: str, batch: _Batch | None, pending: Sums, database: Database
) -> dict[UsageKey, Counts]:
    """What is stored, with what is not stored yet."""
    found = database.find_usage(query)
    is_stored = batch is None or database.usage_number(writer) >= batch.number
    for sums in (pending, {} if batch is None or is_stored else batch.sums):
        for key, counts in selected(query, sums).items():
            found[key] = found.get(key, Counts()) + counts
    return found
