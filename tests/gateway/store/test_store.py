"""The store of one server: its queue, its threads and its losses."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import StoreFull, StoreUnavailable
from gateway.store.database import Database
from gateway.store.record import Query, Record
from gateway.store.sqlite import SQLiteDatabase, open_sqlite
from gateway.store.store import MAX_BATCH, Store
from gateway.store.upkeep.kinds import ObjectKind
from gateway.store.upkeep.maintained import Which
from gateway.store.upkeep.sweep import Limits, Sweep
from tests.kit.serving import PATIENCE

pytestmark = pytest.mark.anyio

ALL = Query(kind="thing", owner=None, limit=10_000)


@contextmanager
def opened(connect: Callable[[], Database], **limits: Any) -> Iterator[Store]:
    store = Store(connect, **limits)
    store.open()
    try:
        yield store
    finally:
        store.close()


def record(number: int, body: bytes = b"{}") -> Record:
    return Record(kind="thing", id=str(number), owner="ann", created_at=1.0, body=body)


@asynccontextmanager
async def held_up(store: Store) -> AsyncIterator[None]:
    """The writer waits meanwhile, with a change that counts."""
    begun, gate = threading.Event(), threading.Event()

    def hold(_: Database) -> None:
        begun.set()
        assert gate.wait(PATIENCE)

    holding = asyncio.create_task(store.write(hold))
    await asyncio.to_thread(begun.wait, PATIENCE)
    try:
        yield
    finally:
        gate.set()
        await holding


async def ids(store: Store) -> list[int]:
    return [int(each.id) for each in (await store.find(ALL)).records]


async def test_who_reads_sees_all_that_came_before(connect: Callable[[], Database]) -> None:
    with opened(connect) as store:
        for number in range(3 * MAX_BATCH):
            assert store.put_later([record(number)])
        assert await ids(store) == list(range(3 * MAX_BATCH))
        assert (await store.get("thing", "7", "ann")) == record(7)
        assert await store.get("thing", "7", "bob") is None
        assert (store.num_waiting, store.waiting_bytes, store.num_lost) == (0, 0, 0)


async def test_what_waits_is_stored_at_the_end(connect: Callable[[], Database]) -> None:
    with opened(connect) as store:
        for number in range(2000):
            store.put_later([record(number)])
    with opened(connect) as store:
        assert await ids(store) == list(range(2000))


async def test_a_change_that_fails_takes_no_other_with_it(connect: Callable[[], Database]) -> None:
    def fails(database: Database) -> None:
        database.put(record(99))
        raise ZeroDivisionError

    with opened(connect) as store:
        async with held_up(store):
            first = asyncio.create_task(store.put(record(0)))
            wrong = asyncio.create_task(store.write(fails))
            last = asyncio.create_task(store.put(record(1)))
            await asyncio.sleep(0)
        await asyncio.gather(first, last)
        with pytest.raises(ZeroDivisionError):
            await wrong
        assert await ids(store) == [0, 1]


async def test_too_much_is_lost_counted_and_refused(connect: Callable[[], Database]) -> None:
    with opened(connect, max_waiting=4, max_waiting_bytes=100) as store:
        async with held_up(store):
            assert store.put_later([record(0, b"x" * 90)])
            assert not store.put_later([record(1, b"x" * 11), record(2)])
            assert store.put_later([record(3, b"x" * 10)])
            assert store.put_later([record(4, b"")])
            assert not store.put_later([record(5, b"")])
            with pytest.raises(StoreUnavailable):
                await store.put(record(6))
            assert store.num_lost == 3
        await settled(store)
        assert await ids(store) == [0, 3, 4]


async def test_changes_that_nobody_waits_for(connect: Callable[[], Database]) -> None:
    """One that fails is lost, and nothing else is."""

    def fail(_: Database) -> None:
        raise ZeroDivisionError

    with opened(connect, max_waiting_bytes=100) as store:
        async with held_up(store):
            assert store.write_later(lambda database: database.put(record(0)), 60, 1)
            assert store.write_later(fail, 40, 3)
            assert not store.write_later(lambda database: database.put(record(1)), 1, 1)
            assert store.num_lost == 1
        assert await ids(store) == [0]
        assert store.num_lost == 4


async def test_a_record_that_is_larger_than_all_together_may_wait_alone(
    connect: Callable[[], Database],
) -> None:
    with opened(connect, max_waiting_bytes=10) as store:
        await store.put(record(0, b"x" * 1000))
        assert await ids(store) == [0]


async def settled(store: Store) -> None:
    async with asyncio.timeout(PATIENCE):
        while store.num_waiting:  # noqa: ASYNC110  # the writer is a thread
            await asyncio.sleep(0.001)


async def test_nobody_waits_for_a_change_whose_client_has_left(
    connect: Callable[[], Database],
) -> None:
    with opened(connect) as store:
        async with held_up(store):
            waiting = asyncio.create_task(store.put(record(0)))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert await ids(store) == [0]


async def test_a_full_disk_refuses_changes_and_reads_go_on(tmp_path: Path) -> None:
    def small() -> Database:
        database = open_sqlite(tmp_path / "store.db")
        database._connection.execute("PRAGMA max_page_count = 30")
        return database

    with opened(small) as store:
        await store.put(record(0))
        with pytest.raises(StoreFull, match="full"):
            await store.put(record(1, b"x" * 1_000_000))
        store.put_later([record(2, b"x" * 1_000_000)])
        assert await ids(store) == [0]
        assert store.num_lost == 1
        await store.put(record(3))
        assert await ids(store) == [0, 3]


async def test_a_full_store_sees_by_itself_that_there_is_room_again(tmp_path: Path) -> None:
    """Also after the sweep has made some."""
    databases = []

    def small() -> SQLiteDatabase:
        databases.append(open_sqlite(tmp_path / "store.db"))
        databases[-1]._connection.execute("PRAGMA max_page_count = 100")
        return databases[-1]

    kind = ObjectKind("thing")
    with opened(small, sweep=Sweep(Limits(), [kind], now=lambda: 100.0)) as store:
        for number in range(3):
            await store.put(record(number, b"x" * 80_000))
        assert not store.is_full
        with pytest.raises(StoreFull):
            await store.put(record(3, b"x" * 170_000))
        assert store.is_full
        with pytest.raises(StoreFull):
            await store.put(record(3, b"x" * 170_000))
        assert await ids(store) == [0, 1, 2]
        assert store.is_full
        store.keep_within(Limits(keep_seconds=50))
        async with asyncio.timeout(PATIENCE):
            while store.is_full:  # noqa: ASYNC110  # the writer is a thread
                await asyncio.sleep(0.001)
        await store.put(record(4, b"x" * 200_000))
        assert await ids(store) == [4]
        assert list(databases[0].records(Which(["store.probe"]))) == []


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    open_sqlite(tmp_path / "store.db").close()
    with sqlite3.connect(tmp_path / "store.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(Exception, match="newer version of Lockgate"):
        open_sqlite(tmp_path / "store.db")


@pytest.mark.parametrize("content", [b"hello, this is no database" * 99, None])
def test_what_is_no_database_is_said(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "store.db"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(Exception, match=r"store\.path: .*store\.db cannot be"):
        open_sqlite(path)
