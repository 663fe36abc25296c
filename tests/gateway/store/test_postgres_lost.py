"""A PostgreSQL server that is lost, hangs or refuses, and comes back."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

pytest.importorskip("psycopg", reason="no psycopg: pip install 'lockgate[postgres]'")

from gateway.errors import CommitUncertain, StoreFull, StoreUnavailable
from gateway.store.database import Database
from gateway.store.postgres.connection import Limits
from gateway.store.postgres.database import PostgresDatabase, open_postgres
from gateway.store.record import Query, Record
from gateway.store.store import Store
from runtime.errors import SetupError
from tests.kit.cut_wire import wire_to
from tests.kit.postgres_server import PASSWORD, PostgresServer
from tests.kit.serving import PATIENCE

pytestmark = pytest.mark.anyio

LIMITS = Limits(patience=0, pause=0.01, max_pause=0.05)
COMMIT = b"COMMIT\0"
"""As it is sent; other statements have the word in them."""
ALL = Query(kind="thing", owner=None, limit=10_000)


def record(id: object, body: bytes = b"0") -> Record:
    return Record(kind="thing", id=str(id), owner="ann", created_at=1.0, body=body)


def put(database: Database, *ids: object) -> None:
    with database.transaction():
        for id in ids:
            database.put(record(id))


def ids(database: Database) -> list[str]:
    return [each.id for each in database.find(ALL).records]


def one_more(database: Database) -> int:
    """A change that must not be applied twice."""
    counter = database.get("thing", "counter", "ann")
    number = 1 + (0 if counter is None else int(counter.body))
    database.put(record("counter", str(number).encode()))
    return number


@contextmanager
def opened(url: str, limits: Limits = LIMITS) -> Iterator[PostgresDatabase]:
    database = open_postgres(url, limits)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def store_at(url: str, limits: Limits = LIMITS) -> Iterator[Store]:
    store = Store(partial(open_postgres, url, limits))
    store.open()
    try:
        yield store
    finally:
        store.close()


@contextmanager
def down(server: PostgresServer, how: str) -> Iterator[None]:
    server.stop(how)
    try:
        yield
    finally:
        server.start()


def test_an_idle_connection_that_has_ended_is_replaced(postgres: PostgresServer, url: str) -> None:
    with opened(url) as database:
        put(database, "x")
        postgres.end_connections()
        assert ids(database) == ["x"]
        postgres.end_connections()
        put(database, "y")
        assert ids(database) == ["x", "y"]


def test_a_transaction_that_is_cut_is_absent(postgres: PostgresServer, url: str) -> None:
    def cut(database: Database) -> None:
        with database.transaction():
            database.put(record("x"))
            database.get("thing", "x", None)
            postgres.end_connections()
            database.put(record("y"))

    with opened(url) as database:
        with pytest.raises(StoreUnavailable):
            cut(database)
        put(database, "z")
        assert ids(database) == ["z"]


def test_what_follows_upon_a_lost_connection_is_no_part_of_another_transaction(
    postgres: PostgresServer, url: str
) -> None:
    def cut(database: Database) -> None:
        with database.transaction():
            postgres.end_connections()
            for _ in range(2):
                with pytest.raises(StoreUnavailable):
                    database.get("thing", "x", None)
            database.put(record("y"))

    with opened(url) as database:
        with pytest.raises(StoreUnavailable):
            cut(database)
        assert ids(database) == []


@pytest.mark.parametrize("how", ["INT", "QUIT"])
async def test_a_server_that_is_away_loses_what_is_counted_and_comes_back(
    postgres: PostgresServer, url: str, how: str
) -> None:
    with store_at(url) as store:
        await store.put(record(0))
        with down(postgres, how):
            with pytest.raises(StoreUnavailable, match="cannot be used now"):
                await store.put(record(1))
            with pytest.raises(StoreUnavailable):
                await store.find(ALL)
            assert store.put_later([record(2), record(3)])
            with pytest.raises(StoreUnavailable):
                await store.delete("thing", "0", None)
            assert store.num_lost == 2
        await again(store)
        assert [each.id for each in (await store.find(ALL)).records] == ["0", "4"]


async def again(store: Store) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await store.put(record(4))
            except StoreUnavailable:
                await asyncio.sleep(LIMITS.pause)


async def test_changes_wait_for_a_server_that_is_soon_back(
    postgres: PostgresServer, url: str
) -> None:
    with store_at(url, Limits(patience=PATIENCE, max_pause=0.1)) as store:
        await store.put(record(0))
        with down(postgres, "INT"):
            for number in range(1, 100):
                store.put_later([record(number)])
        assert [each.id for each in (await store.find(ALL)).records] == [*map(str, range(100))]
        assert store.num_lost == 0


@pytest.mark.parametrize("arrives", [True, False])
@pytest.mark.parametrize("num_changes", [1, 20])
async def test_a_commit_without_an_answer_is_applied_once(
    postgres: PostgresServer, arrives: bool, num_changes: int
) -> None:
    schema = postgres.new_schema()
    with wire_to(postgres.port) as wire, store_at(postgres.url(schema, port=wire.port)) as store:
        assert await store.write(one_more) == 1
        wire.cut_at(COMMIT, arrives=arrives)
        changes = (store.write(one_more) for _ in range(num_changes))
        results = await asyncio.gather(*changes, return_exceptions=True)
        assert wire.num_cut == 1
        counted = [result for result in results if isinstance(result, int)]
        assert len(counted) >= (num_changes if arrives else num_changes - 1)
        assert sorted(counted) == list(range(2, len(counted) + 2))
        assert await store.write(one_more) == len(counted) + 2


async def test_where_nobody_knows_whether_a_commit_was_done_nothing_is_done_again(
    postgres: PostgresServer,
) -> None:
    schema = postgres.new_schema()
    with (
        wire_to(postgres.port) as wire,
        store_at(postgres.url(schema, port=wire.port)) as store,
    ):
        assert await store.write(one_more) == 1
        wire.cut_at(COMMIT, arrives=True, stays_down=True)
        changes = (store.write(one_more) for _ in range(20))
        results = await asyncio.gather(*changes, return_exceptions=True)
        uncertain = [result for result in results if isinstance(result, CommitUncertain)]
        assert uncertain
        assert all(isinstance(result, StoreUnavailable) for result in results)
    with opened(postgres.url(schema)) as database:
        assert database.get("thing", "counter", None) == record(
            "counter", b"%d" % (1 + len(uncertain))
        )


def test_a_server_that_hangs_holds_nobody_for_ever(postgres: PostgresServer, url: str) -> None:
    limits = Limits(patience=0, silence=0.3)
    with opened(url, limits) as database:
        put(database, "x")
        with postgres.halted_connection():
            began = time.monotonic()
            assert ids(database) == ["x"]  # on another connection
            assert time.monotonic() - began > limits.silence


def test_a_change_waits_for_that_of_another_but_not_for_ever(url: str) -> None:
    with opened(url) as one, opened(url, Limits(lock=0.1)) as other:
        with one.transaction():
            one.put(record("x"))
            with pytest.raises(StoreUnavailable, match="lock timeout"):
                put(other, "y")
            assert ids(other) == []
        put(other, "z")
        assert ids(one) == ["x", "z"]


def test_a_statement_has_limited_time(postgres: PostgresServer, url: str) -> None:
    with opened(url, Limits(statement=0.1)) as database:
        _on_put(postgres, url, "PERFORM pg_sleep(60)")
        with pytest.raises(StoreUnavailable, match="statement timeout"):
            put(database, "x")
        assert ids(database) == []


def test_a_disk_that_is_full_is_told_apart(postgres: PostgresServer, url: str) -> None:
    with opened(url) as database:
        put(database, "x")
        _on_put(postgres, url, "RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'")
        with pytest.raises(StoreFull):
            put(database, "y")
        assert ids(database) == ["x"]


def _on_put(postgres: PostgresServer, url: str, statement: str) -> None:
    """What the server does before it stores a record."""
    schema = url.rpartition("%3D")[2]
    postgres.execute(
        f"CREATE FUNCTION {schema}.first() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN {statement}; RETURN NEW; END $$;"
        f"CREATE TRIGGER first BEFORE INSERT ON {schema}.lockgate_records"
        f" FOR EACH ROW EXECUTE FUNCTION {schema}.first()"
    )


def test_a_server_that_only_reads_is_read(url: str) -> None:
    with opened(url) as database:
        put(database, "x")
    with opened(f"{url}%20-cdefault_transaction_read_only%3Don") as database:
        with pytest.raises(StoreUnavailable, match="read-only"):
            put(database, "y")
        assert ids(database) == ["x"]


def test_a_server_that_is_away_at_the_start_is_named(postgres: PostgresServer, url: str) -> None:
    with down(postgres, "INT"), pytest.raises(SetupError) as told:
        open_postgres(url)
    assert f"store.url: postgresql://{postgres.place}/postgres" in str(told.value)
    assert "refused" in str(told.value)


def test_no_error_shows_a_password(postgres: PostgresServer, url: str) -> None:
    wrong = url.replace(PASSWORD[:8], "wrong-se")
    assert wrong != url
    with pytest.raises(SetupError, match="password authentication failed") as told:
        open_postgres(wrong)
    assert "wrong" not in str(told.value)


@pytest.mark.parametrize(
    "password", ["p@hunter2", "1/hunter2", "1?hunter2", "1#hunter2", "[hunter2"]
)
@pytest.mark.parametrize("rest", ["@127.0.0.1:1/db", "@127.0.0.1:x/db", "@/d?hunter2=1"])
def test_no_mistake_in_a_url_shows_a_part_of_it(password: str, rest: str) -> None:
    with pytest.raises(SetupError) as told:
        open_postgres(f"postgresql://ann:{password}{rest}")
    shown: Any = told.value
    while shown is not None:
        assert "hunter2" not in str(shown)
        shown = shown.__cause__
