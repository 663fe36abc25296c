"""Several gateways on one database."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from gateway.store.database import Database
from gateway.store.record import Query, Record
from gateway.store.store import Store

pytestmark = pytest.mark.anyio

PER_STORE = 300


def record(id: str, owner: str = "ann", body: bytes = b"0") -> Record:
    return Record(kind="thing", id=id, owner=owner, created_at=1.0, body=body)


def stores(stack: ExitStack, connect: Callable[[], Database], count: int) -> list[Store]:
    made = [Store(connect) for _ in range(count)]
    for store in made:
        store.open()
        stack.callback(store.close)
    return made


async def test_what_one_stores_another_finds(connect: Callable[[], Database]) -> None:
    with ExitStack() as stack:
        one, other = stores(stack, connect, 2)
        await one.put(record("x"))
        assert await other.get("thing", "x", "ann") == record("x")
        await other.put(record("x", body=b"1"), record("x", owner="bob"))
        assert await one.get("thing", "x", None) == record("x", body=b"1")
        assert await other.delete("thing", "x", "ann")
        assert await one.get("thing", "x", "ann") is None


async def test_who_follows_the_list_misses_nothing(connect: Callable[[], Database]) -> None:
    """A record that became visible behind a cursor that has passed it would be missed."""
    with ExitStack() as stack:
        *writers, reader = stores(stack, connect, 4)

        async def write(store: Store, name: str) -> None:
            for number in range(0, PER_STORE, 3):
                await store.put(*(record(f"{name}{number + each}") for each in range(3)))

        writing = [
            asyncio.create_task(write(store, name))
            for store, name in zip(writers, "abc", strict=True)
        ]
        seen = list[str]()
        while len(seen) < len(writers) * PER_STORE:
            ended = all(task.done() for task in writing)
            page = await reader.find(
                Query(kind="thing", owner="ann", after=seen[-1] if seen else "", limit=50)
            )
            seen += [each.id for each in page.records]
            assert page.records or not ended, "some are never seen"
        await asyncio.gather(*writing)
        for name in "abc":
            own = [id for id in seen if id.startswith(name)]
            assert own == [f"{name}{number}" for number in range(PER_STORE)]


async def test_changes_that_read_first_do_not_meet(connect: Callable[[], Database]) -> None:
    def one_more(database: Database) -> None:
        found = database.get("thing", "counter", "ann")
        number = 0 if found is None else int(found.body)
        database.put(record("counter", body=b"%d" % (number + 1)))

    with ExitStack() as stack:
        made = stores(stack, connect, 3)
        await asyncio.gather(*(store.write(one_more) for store in made for _ in range(100)))
        assert await made[0].get("thing", "counter", None) == record("counter", body=b"300")
