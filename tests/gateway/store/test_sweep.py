"""What the sweep deletes, and what it leaves."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import StoreUnavailable
from gateway.store.record import Query, Record
from gateway.store.sqlite import SQLiteDatabase, open_sqlite
from gateway.store.store import Store
from gateway.store.upkeep.kinds import ObjectKind
from gateway.store.upkeep.maintained import Which
from gateway.store.upkeep.sweep import INTERVAL, Limits, Sweep
from tests.kit.serving import PATIENCE


class FakeClock:
    """Seconds that pass when the test says so, and `tick` with each look at them."""

    def __init__(self, tick: float = 0.0) -> None:
        self.now = 0.0
        self._tick = tick

    def __call__(self) -> float:
        self.now += self._tick
        return self.now


THING = ObjectKind("thing", parts=("thing.part",))
TALK = ObjectKind("talk", children=("talk.item",))
NOW = 1000.0


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SQLiteDatabase]:
    made = open_sqlite(tmp_path / "store.db")
    yield made
    made.close()


def record(kind: str, id: str, created_at: float = NOW, **fields: Any) -> Record:
    fields = {"owner": "ann", "body": b"{}", **fields}
    return Record(kind=kind, id=id, created_at=created_at, **fields)


def thing(id: str, created_at: float, num_bytes: int = 2) -> list[Record]:
    body = b"x" * num_bytes
    return [record(kind, id, created_at, body=body) for kind in ("thing", "thing.part")]


def stored(database: SQLiteDatabase, *records: Record) -> None:
    with database.transaction():
        for each in records:
            database.put(each)


def left(database: SQLiteDatabase) -> list[tuple[str, str]]:
    return [(each.kind, each.id) for each in database.records(Which())]


def swept(database: SQLiteDatabase, limits: Limits, *kinds: ObjectKind) -> Sweep:
    """After a round."""
    sweep = Sweep(limits, kinds or (THING, TALK), now=lambda: NOW)
    ended(sweep, database)
    return sweep


def ended(sweep: Sweep, database: SQLiteDatabase) -> None:
    """Goes on to the end of a round."""
    before = sweep.num_rounds
    while sweep.num_rounds == before:
        sweep.step(database)


def test_what_is_too_old_goes_with_all_that_belongs_to_it(database: SQLiteDatabase) -> None:
    stored(database, *thing("old", 899), *thing("new", 900), record("talk", "t", 100))
    stored(database, record("talk.item", "i", 999, parent="t"), record("talk.item", "j", 1))
    sweep = swept(database, Limits(keep_seconds=100))
    assert left(database) == [("thing", "new"), ("thing.part", "new"), ("talk.item", "j")]
    assert sweep.num_deleted == {"age": 2, "size": 0}


def test_what_does_not_age_stays_however_large(database: SQLiteDatabase) -> None:
    stored(database, *thing("x", 1), record("talk", "t", 1, body=b"x" * 100_000))
    swept(database, Limits(keep_seconds=100, max_bytes=1), THING)
    assert left(database) == [("talk", "t")]


def test_without_limits_everything_stays(database: SQLiteDatabase) -> None:
    stored(database, *thing("x", 1))
    sweep = swept(database, Limits())
    assert (len(left(database)), sweep.num_deleted) == (2, {"age": 0, "size": 0})


def test_what_is_too_much_goes_from_the_oldest_on(database: SQLiteDatabase) -> None:
    for number in range(50):
        stored(database, *thing(str(number), 500 - number, 10_000))
        stored(database, record("talk", str(number), 500.5 - number, body=b"x" * 10_000))
    limits = Limits(max_bytes=database.num_bytes() // 2)
    sweep = swept(database, limits)
    things = [int(id) for kind, id in left(database) if kind == "thing"]
    talks = [int(id) for kind, id in left(database) if kind == "talk"]
    assert things == list(range(len(things)))
    assert len(talks) - len(things) in (0, 1)
    assert 0.9 * limits.max_bytes < database.num_bytes() <= limits.max_bytes
    assert sweep.num_deleted == {"age": 0, "size": 100 - len(things) - len(talks)}


def test_the_oldest_of_all_kinds_goes_first_however_many_there_are(
    database: SQLiteDatabase,
) -> None:
    for number in range(150):
        stored(database, record("talk", str(number), 500.0 + number, body=b"x" * 8000))
        stored(database, record("thing", str(number), float(number), body=b"x" * 8000))
    limits = Limits(max_bytes=database.num_bytes() * 11 // 20)
    sweep = Sweep(limits, [THING, TALK], now=lambda: NOW, clock=FakeClock())
    ended(sweep, database)
    kinds = [kind for kind, _ in left(database)]
    assert kinds.count("talk") == 150
    assert 0 < kinds.count("thing") < 60


def test_free_room_is_given_back_but_for_a_part(database: SQLiteDatabase, tmp_path: Path) -> None:
    for number in range(200):
        stored(database, *thing(str(number), number, 20_000))
    most = database.num_bytes() // 10
    swept(database, Limits(max_bytes=most))
    database.write_back()
    used, taken = database.num_bytes(), (tmp_path / "store.db").stat().st_size
    assert used <= most
    assert used < taken < used * 1.06 + 10_000


LIVES = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 20)), max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(lives=LIVES, cut=st.integers(0, 20))
def test_objects_are_whole_or_gone(
    database: SQLiteDatabase, lives: list[tuple[str, int]], cut: int
) -> None:
    swept(database, Limits(keep_seconds=1))
    born = dict[str, int]()
    for id, moment in lives:
        born.setdefault(id, moment)
        stored(database, *thing(id, moment))
    swept(database, Limits(keep_seconds=NOW - cut))
    expected = [id for id, moment in born.items() if moment >= cut]
    assert left(database) == [(kind, id) for id in expected for kind in ("thing", "thing.part")]
    swept(database, Limits(keep_seconds=1))
    assert left(database) == []


def test_a_step_is_a_bounded_transaction(database: SQLiteDatabase) -> None:
    """However long the clock says that deleting takes, one object is deleted in each step."""
    for number in range(5):
        stored(database, *thing(str(number), 1))
    sweep = Sweep(Limits(keep_seconds=1), [THING], now=lambda: NOW, clock=FakeClock(tick=1.0))
    for number in range(1, 6):
        sweep.step(database)
        assert (sweep.num_deleted["age"], sweep.num_rounds) == (number, 0)
    ended(sweep, database)


def test_rounds_begin_at_the_start_each_hour_and_after_much_was_stored(
    database: SQLiteDatabase,
) -> None:
    clock = FakeClock()
    sweep = Sweep(Limits(max_bytes=1_000_000), [THING], now=lambda: NOW, clock=clock)
    assert sweep.seconds_left() == 0
    ended(sweep, database)
    assert sweep.seconds_left() == INTERVAL
    sweep.wrote(9_999)
    assert sweep.seconds_left() == INTERVAL
    sweep.wrote(1)
    assert sweep.seconds_left() == 0
    ended(sweep, database)
    clock.now += INTERVAL
    assert sweep.seconds_left() == 0
    ended(sweep, database)
    sweep.use(Limits(keep_seconds=1))
    assert sweep.seconds_left() == 0


def test_limits_that_change_in_the_middle_of_a_step_are_not_forgotten(
    database: SQLiteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Sweep(Limits(max_bytes=1), [THING], now=lambda: NOW)
    num_bytes = database.num_bytes

    def change() -> int:
        sweep.use(Limits(keep_seconds=7))
        return num_bytes()

    monkeypatch.setattr(database, "num_bytes", change)
    ended(sweep, database)
    assert sweep.seconds_left() == 0


def test_a_round_that_fails_is_tried_again(
    database: SQLiteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> bool:
        raise StoreUnavailable("no")

    stored(database, *thing("x", 1))
    clock = FakeClock()
    sweep = Sweep(Limits(keep_seconds=1), [THING], now=lambda: NOW, clock=clock)
    with monkeypatch.context() as patch:
        patch.setattr(database, "delete", fail)
        ended(sweep, database)
        assert (len(left(database)), sweep.num_deleted["age"]) == (2, 0)
    assert sweep.seconds_left() == INTERVAL
    ended(sweep, database)
    assert left(database) == []


@pytest.mark.anyio
async def test_a_store_sweeps_by_itself_between_changes(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    sweep = Sweep(Limits(keep_seconds=100), [THING], now=lambda: NOW)
    store = Store(lambda: open_sqlite(path), sweep=sweep)
    store.open()
    try:
        await until(lambda: sweep.num_rounds == 1)
        await store.put(*thing("x", 899), *thing("y", 990))
        store.keep_within(Limits(keep_seconds=50))
        await until(lambda: sweep.num_deleted["age"] == 1)
        page = await store.find(Query(kind="thing", owner=None))
        assert [each.id for each in page.records] == ["y"]
    finally:
        store.close()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not is_so():  # noqa: ASYNC110  # the writer is a thread
            await asyncio.sleep(0.001)


@pytest.mark.anyio
async def test_a_busy_store_stays_within_its_size(tmp_path: Path) -> None:
    """Nobody waits an hour until it is looked at."""
    limits = Limits(max_bytes=1_000_000)
    store = Store(
        lambda: open_sqlite(tmp_path / "store.db"), sweep=Sweep(limits, [THING], now=lambda: NOW)
    )
    store.open()
    sizes = []
    try:
        for number in range(300):
            await store.put(*thing(str(number), number, 10_000))
            sizes.append(await store.read(lambda database: database.num_bytes()))  # type: ignore[attr-defined]
    finally:
        store.close()
    assert max(sizes) < 1_300_000
