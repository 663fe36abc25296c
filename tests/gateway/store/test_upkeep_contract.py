"""What every kind of database tells of its records as a whole."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.store.record import Record
from gateway.store.upkeep.maintained import Aged, Maintained, Share, Which
from gateway.store.upkeep.purge import purge
from gateway.store.upkeep.sweep import Limits, Sweep

NOW = 1000.0


@pytest.fixture
def database(connect: Callable[[], Maintained]) -> Iterator[Maintained]:
    made = connect()
    yield made
    made.close()


def record(kind: str, id: str, created_at: float = NOW, **fields: Any) -> Record:
    fields = {"owner": "ann", "body": b"{}", **fields}
    return Record(kind=kind, id=id, created_at=created_at, **fields)


def stored(database: Maintained, *records: Record) -> None:
    with database.transaction():
        for each in records:
            database.put(each)


FEW = (
    record("b", "x", 3.0),
    record("a", "y\0", 2.0, owner="bob\\"),
    record("b", "z", 1.0, body=b"12345"),
    record("a", "z", 4.0, owner="bob\\"),
)


@pytest.mark.parametrize(
    ("which", "places"),
    [
        (Which(), [0, 1, 2, 3]),
        (Which(kinds=["b", "c"]), [0, 2]),
        (Which(owner="bob\\"), [1, 3]),
        (Which(before=3.0), [1, 2]),
        (Which(kinds=["a"], owner="bob\\", before=3.0), [1]),
        (Which(owner="eve"), []),
    ],
)
def test_records_are_chosen_and_in_their_order(
    database: Maintained, which: Which, places: list[int]
) -> None:
    stored(database, *FEW)
    chosen = [FEW[place] for place in places]
    assert [*database.records(which)] == chosen
    aged = sorted(
        (Aged(each.kind, each.id, each.created_at) for each in chosen), key=lambda a: a.created_at
    )
    assert database.oldest(which, 9) == aged
    assert database.oldest(which, 1) == aged[:1]
    assert sum(share.num_records for share in database.shares(which)) == len(chosen)


def test_shares(database: Maintained) -> None:
    stored(database, *FEW)
    first = Share(kind="a", owner="bob\\", num_records=2, num_bytes=4, oldest=2.0, newest=4.0)
    second = Share(kind="b", owner="ann", num_records=2, num_bytes=7, oldest=1.0, newest=3.0)
    assert database.shares(Which()) == [first, second]


def test_more_records_than_are_looked_up_at_once(database: Maintained) -> None:
    many = [record("ab"[number % 2], str(number)) for number in range(2500)]
    stored(database, *many)
    assert [*database.records(Which())] == many


def test_sizes_follow_what_is_stored(database: Maintained) -> None:
    stored(database, record("a", "first"))
    empty = database.num_bytes()
    stored(database, *(record("a", str(number), body=bytes(9000)) for number in range(100)))
    full = database.num_bytes()
    assert full > empty + 500_000
    with database.transaction():
        for number in range(50):
            database.delete("a", str(number), None)
    half = database.num_bytes()
    assert empty < half < full
    about = database.about()
    assert about.num_bytes > 0
    assert about.file_bytes > 0
    assert about.form > 0
    assert "secret" not in about.place


def test_room_is_given_back(connect: Callable[[], Maintained]) -> None:
    database = connect()
    body = bytes(range(256)) * 40
    stored(database, *(record("a", str(number), body=body) for number in range(200)))
    before = database.about().file_bytes
    with database.transaction():
        for number in range(200):
            database.delete("a", str(number), None)
    with database.transaction():
        database.give_back(0.0, 0.1)
    database.write_back()
    database.rewrite()
    database.close()
    database = connect()
    assert database.about().file_bytes < before / 2
    database.close()


def test_a_sweep_keeps_it_within_limits(database: Maintained) -> None:
    for number in range(100):
        parts = (record(kind, str(number), 900 + number, body=bytes(20_000)) for kind in PARTS)
        stored(database, *parts)
    limits = Limits(keep_seconds=90, max_bytes=database.num_bytes() // 2)
    sweep = Sweep(limits, now=lambda: NOW)
    while not sweep.num_rounds:
        sweep.step(database)
    left = [each.id for each in database.records(Which(kinds=["response"]))]
    assert left == [str(number) for number in range(100 - len(left), 100)]
    assert left == [each.id for each in database.records(Which(kinds=["response.input"]))]
    assert 0.9 * limits.max_bytes < database.num_bytes() <= limits.max_bytes
    assert sweep.num_deleted == {"age": 10, "size": 90 - len(left)}
    assert [*purge(database, Which(kinds=["response"]))]
    assert [*database.records(Which())] == []


PARTS = ("response", "response.input")
