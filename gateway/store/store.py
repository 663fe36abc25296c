"""The memory of a server: one thread writes, another reads, and no request waits for the disk that
does not ask to."""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import structlog
from msgspec import Struct

from gateway.errors import CommitUncertain, StoreFull, StoreUnavailable
from gateway.store.database import Database
from gateway.store.record import Page, Query, Record
from gateway.store.upkeep.maintained import Maintained
from gateway.store.upkeep.sweep import Limits, Sweep

log = structlog.get_logger(__name__)

MAX_WAITING = 10_000
"""Changes that may wait to be written."""

MAX_WAITING_BYTES = 64_000_000
"""Bytes of their records."""

MAX_BATCH = 500
"""Changes that are stored in one transaction."""

LINGER_SECONDS = 0.05
"""For how long a change that nobody waits for waits itself for others to be stored with it: most of
what storing costs is the transaction."""

PROBE_SECONDS = 1.0
"""Time between two looks whether a full store has room again."""

_PROBE = Record(kind="store.probe", id="probe", owner="", created_at=0.0, body=bytes(100_000))

T = TypeVar("T")


class _Change(Struct, frozen=True):
    """A change that waits. Nobody waits for its result if there is no `result`."""

    apply: Callable[[Database], Any]
    num_bytes: int = 0
    num_records: int = 0
    result: Future[Any] | None = None


class Store:
    """Belongs to one event loop. Changes are stored in the order in which they came, many in one
    transaction. Who reads sees all changes that were asked for before.

    `num_lost` counts records of `put_later` that could not be stored. `num_waiting` changes, which
    have `waiting_bytes`, are not stored yet. `is_full` says that the last change failed for lack of
    room. Then it is tried every second whether there is some again.
    """

    def __init__(
        self,
        connect: Callable[[], Database],
        max_waiting: int = MAX_WAITING,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
        sweep: Sweep | None = None,
    ) -> None:
        """`connect` opens a connection for each of the two threads. The one that writes does what
        `sweep` finds to be due, where the database can be kept in bounds."""
        self._connect = connect
        self.sweep = sweep or Sweep(Limits())
        self._max_waiting = max_waiting
        self._max_waiting_bytes = max_waiting_bytes
        self._queue: queue.SimpleQueue[_Change | None] = queue.SimpleQueue()
        self._is_awaited = threading.Event()
        self._counting = threading.Lock()
        self.num_waiting = 0
        self.waiting_bytes = 0
        self.num_lost = 0
        self.is_full = False
        self._is_closed = True

    def open(self) -> None:
        """Begins. Raises SetupError if the database cannot be used."""
        self._writing, self._reading = self._connect(), self._connect()
        self._swept = self._writing if isinstance(self._writing, Maintained) else None
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="store-reader")
        self._writer = threading.Thread(target=self._write_all, name="store-writer", daemon=True)
        self._writer.start()
        self._is_closed = False

    def put_later(self, records: Sequence[Record]) -> bool:
        """Has the records stored soon, together or not at all. False says that too much waits
        already, and that they are lost; this is counted and logged."""
        num_bytes = sum(len(record.body) for record in records)
        return self.write_later(_put_all(records), num_bytes, len(records))

    def write_later(
        self, change: Callable[[Database], object], num_bytes: int, num_records: int
    ) -> bool:
        """The same for any change, of so many records with so many bytes."""
        if self._takes(num_bytes):
            self._submit(_Change(change, num_bytes, num_records))
            return True
        self._lose(num_records, "too much waits to be written")
        return False

    async def put(self, *records: Record) -> None:
        """Stores the records, together or not at all."""
        await self.write(_put_all(records), sum(len(record.body) for record in records))

    async def delete(self, kind: str, id: str, owner: str | None) -> bool:
        """Whether there was such a record of this owner."""
        return await self.write(lambda database: database.delete(kind, id, owner))

    async def write(self, change: Callable[[Database], T], num_bytes: int = 0) -> T:
        """The result of a change, once it is stored. A change may be applied again after an error
        of another one. Raises StoreFull and StoreUnavailable."""
        if not self._takes(num_bytes):
            raise StoreUnavailable("Too much waits to be stored. Send the request again.")
        result: Future[T] = Future()
        self._submit(_Change(change, num_bytes, result=result))
        return await asyncio.wrap_future(result)

    async def get(self, kind: str, id: str, owner: str | None) -> Record | None:
        return await self.read(lambda database: database.get(kind, id, owner))

    async def find(self, query: Query) -> Page:
        return await self.read(lambda database: database.find(query))

    async def read(self, question: Callable[[Database], T]) -> T:
        """The answer to a question, after all changes that came before it."""
        if self.num_waiting:
            earlier: Future[None] = Future()
            self._submit(_Change(_nothing, result=earlier))
            await asyncio.wrap_future(earlier)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, question, self._reading)

    def keep_within(self, limits: Limits) -> None:
        """Deletes from now on what these limits do not allow."""
        self.sweep.use(limits)
        if not self._is_closed:
            self._submit(_Change(_nothing))

    def close(self) -> None:
        """Stores what waits, and ends the threads. Nothing may be asked for any more."""
        if not self._is_closed:
            self._is_closed = True
            self._queue.put(None)
            self._is_awaited.set()
            self._writer.join()
            self._readers.shutdown()
            self._writing.close()
            self._reading.close()

    def _takes(self, num_bytes: int) -> bool:
        """Whether a change of this size may wait. One that is too large by itself waits alone."""
        fits = not num_bytes or self.waiting_bytes + num_bytes <= self._max_waiting_bytes
        return self.num_waiting < self._max_waiting and (fits or not self.waiting_bytes)

    def _submit(self, change: _Change) -> None:
        assert not self._is_closed, "a closed store takes nothing"
        with self._counting:
            self.num_waiting += 1
            self.waiting_bytes += change.num_bytes
        self._queue.put(change)
        if change.result is not None:
            self._is_awaited.set()

    def _write_all(self) -> None:
        is_over = False
        while not is_over:
            batch, is_over = self._next_batch()
            num_bytes = sum(change.num_bytes for change in batch)
            if batch:
                self._store(batch)
            elif self.is_full:
                self._probe()
            with self._counting:
                self.num_waiting -= len(batch)
                self.waiting_bytes -= num_bytes
            if self._swept is not None and not is_over:
                self._sweep(self._swept, num_bytes)

    def _sweep(self, database: Maintained, num_bytes: int) -> None:
        """One step, if one is due. `num_bytes` were stored since the last one."""
        self.sweep.wrote(num_bytes)
        if not self.sweep.seconds_left():
            self.sweep.step(database)

    def _next_batch(self) -> tuple[list[_Change], bool]:
        """The changes that wait, and whether they are the last ones. There are none when something
        else is due before one comes."""
        batch: list[_Change] = []
        try:
            change = self._queue.get(timeout=self._patience())
        except queue.Empty:
            return batch, False
        if change is not None and change.result is None:
            self._is_awaited.wait(LINGER_SECONDS)
        self._is_awaited.clear()
        while change is not None:
            batch.append(change)
            if len(batch) == MAX_BATCH:
                return batch, False
            try:
                change = self._queue.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _patience(self) -> float | None:
        """Seconds until there is something else to do than to wait for changes; None is never."""
        waits = [PROBE_SECONDS] if self.is_full else []
        if self._swept is not None:
            waits.append(self.sweep.seconds_left())
        return min(waits, default=None)

    def _probe(self) -> None:
        """Looks whether something can be stored again."""
        try:
            if self._swept is not None:
                self._swept.write_back()  # the log can begin anew then
            self._stored([_Change(_put_all([_PROBE]))])
            self._stored([_Change(lambda database: database.delete(_PROBE.kind, _PROBE.id, None))])
        except Exception as error:
            log.debug("store_still_full", reason=str(error))
        else:
            self._note_room(is_full=False)

    def _note_room(self, *, is_full: bool) -> None:
        if is_full and not self.is_full:
            log.error("store_full")
        if self.is_full and not is_full:
            log.info("store_has_room")
        self.is_full = is_full

    def _store(self, batch: list[_Change]) -> None:
        """Stores changes in one transaction; if one of them fails, each in its own."""
        try:
            results = self._stored(batch)
        except CommitUncertain as error:
            for change in batch:
                self._failed(change, error)
            return
        except Exception as error:
            if len(batch) > 1:
                for change in batch:
                    self._store([change])
                return
            self._failed(batch[0], error)
            return
        if any(change.num_bytes for change in batch):
            self._note_room(is_full=False)
        for change, result in zip(batch, results, strict=True):
            if change.result is not None and change.result.set_running_or_notify_cancel():
                change.result.set_result(result)

    def _stored(self, batch: list[_Change]) -> list[Any]:
        with self._writing.transaction():
            return [change.apply(self._writing) for change in batch]

    def _failed(self, change: _Change, error: Exception) -> None:
        if isinstance(error, StoreFull):
            self._note_room(is_full=True)
        if change.result is None:
            self._lose(change.num_records, str(error))
        elif change.result.set_running_or_notify_cancel():
            change.result.set_exception(error)

    def _lose(self, num_records: int, reason: str) -> None:
        with self._counting:
            self.num_lost += num_records
        log.warning("not_stored", num_records=num_records, reason=reason)


def _put_all(records: Sequence[Record]) -> Callable[[Database], None]:
    def put_all(database: Database) -> None:
        for record in records:
            database.put(record)

    return put_all


def _nothing(_: Database) -> None:
    pass
