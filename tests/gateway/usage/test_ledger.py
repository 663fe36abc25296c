"""Nothing is lost and nothing counted twice between memory and store."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import StoreFull
from gateway.observability.answer_record import AnswerRecord, Outcome
from gateway.store.database import Database
from gateway.store.sqlite import open_sqlite
from gateway.store.store import Store
from gateway.store.usage import Counts, UsageKey, UsageQuery
from gateway.usage.ledger import Account, Ledger, counts_of, selected
from gateway.usage.periods import DAY, HOUR, hour_of
from gateway.usage.totals import KEPT_DAYS

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0
ALL = UsageQuery(0, 2**40)
ANN = Account("ann", "m", "/v1/chat/completions")


class Clock:
    def __init__(self) -> None:
        self.time = NOW

    def __call__(self) -> float:
        return self.time


def record(
    prompt: int = 10, completion: int = 3, outcome: Outcome = "completed", **fields: int
) -> AnswerRecord:
    made = AnswerRecord(1)
    made.prompt_tokens, made.completion_tokens, made.outcome = prompt, completion, outcome
    for name, value in fields.items():
        setattr(made, name, value)
    return made


@asynccontextmanager
async def opened(
    path: Path, clock: Clock | None = None, connect: Any = open_sqlite
) -> AsyncIterator[Ledger]:
    store = Store(lambda: connect(path))
    store.open()
    ledger = Ledger(store, clock or Clock())
    await ledger.open()
    try:
        yield ledger
    finally:
        await ledger.close()
        store.close()


async def total(ledger: Ledger) -> Counts:
    return await ledger.ask(ALL, lambda sums: sum(sums.values(), Counts()))


@pytest.mark.parametrize(
    ("outcome", "tokens", "expected"),
    [
        ("completed", (10, 3), Counts(1, 10, 4, 3, 2)),
        ("completed", (0, 0), Counts(1, 0, 4, 0, 2)),
        ("aborted", (10, 0), Counts(1, 10, 4, 0, 2)),
        ("failed", (10, 3), Counts(1, 10, 4, 3, 2)),
        ("aborted", (0, 0), Counts(0, 0, 4, 0, 2)),
    ],
)
def test_what_counts_as_used(outcome: Outcome, tokens: tuple[int, int], expected: Counts) -> None:
    assert counts_of(record(*tokens, outcome, cached_tokens=4, reasoning_tokens=2)) == expected


async def test_what_is_asked_for_is_there_at_once_and_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    for life in range(3):
        async with opened(path) as ledger:
            assert (await total(ledger)).num_requests == 20 * life
            for number in range(20):
                ledger.add(ANN, record())
                assert (await total(ledger)).num_requests == 20 * life + number + 1
                if number % 7 == 3:
                    await ledger.flush()
    async with opened(path) as ledger:
        assert await total(ledger) == Counts(60, 600, 0, 180, 0)


async def test_an_answer_that_never_began_leaves_no_trace(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as ledger:
        ledger.add(ANN, record(0, 0, "aborted"))
        assert await ledger.ask(ALL, dict) == {}


class Faulty:
    """A database that says that it has failed to add usage, before it has stored it or after."""

    def __init__(self, database: Database, plan: list[str]) -> None:
        self._database, self._plan = database, plan
        self._fails_after = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._database.transaction():
            yield
        if self._fails_after:
            self._fails_after = False
            raise StoreFull("the answer got lost")

    def add_usage(self, *arguments: Any) -> None:
        fault = self._plan.pop(0) if self._plan else ""
        if fault == "before":
            raise StoreFull("no room")
        self._database.add_usage(*arguments)
        self._fails_after = fault == "after"


@given(plan=st.lists(st.sampled_from(["", "before", "after"]), max_size=12))
async def test_a_database_that_fails_loses_and_doubles_nothing(
    tmp_path_factory: pytest.TempPathFactory, plan: list[str]
) -> None:
    path = tmp_path_factory.mktemp("store") / "store.db"
    faults = list(plan)
    async with opened(path, connect=lambda p: Faulty(open_sqlite(p), faults)) as ledger:
        for number in range(len(plan)):
            ledger.add(ANN, record(number + 1, 1))
            try:
                await ledger.flush()
            except StoreFull:
                assert (await total(ledger)).num_requests == number + 1
        faults.clear()
    async with opened(path) as ledger:
        assert await total(ledger) == Counts(len(plan), sum(range(len(plan) + 1)), 0, len(plan))


async def test_a_write_that_is_given_up_is_not_added_twice(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with opened(path) as ledger:
        for _ in range(30):
            ledger.add(ANN, record())
            writing = asyncio.create_task(ledger.flush())
            await asyncio.sleep(0)
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
    async with opened(path) as ledger:
        assert (await total(ledger)).num_requests == 30


async def test_what_cannot_be_stored_at_the_end_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = ["before"] * 9
    async with opened(tmp_path / "store.db", connect=lambda p: Faulty(open_sqlite(p), plan)) as one:
        one.add(ANN, record())
    shown = capsys.readouterr()
    assert "usage_lost" in shown.out + shown.err


async def test_writing_goes_on_after_errors(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("gateway.usage.ledger.WRITE_SECONDS", 0.001)
    path, plan = tmp_path / "store.db", ["before", "after", "before"]
    async with opened(path, connect=lambda p: Faulty(open_sqlite(p), plan)) as ledger:
        running = asyncio.create_task(ledger.run())
        ledger.add(ANN, record())
        database = open_sqlite(path)
        async with asyncio.timeout(20):
            while not database.find_usage(ALL):  # noqa: ASYNC110  # the writer is a thread
                await asyncio.sleep(0.001)
        database.close()
        running.cancel()
        assert (await total(ledger)).num_requests == 1
    async with opened(path) as ledger:
        assert (await total(ledger)).num_requests == 1


async def test_a_clock_that_goes_back_harms_nothing(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "store.db"
    moves = (0, HOUR, -3 * HOUR, 40 * DAY, -80 * DAY, 0)
    async with opened(path, clock) as ledger:
        for move in moves:
            clock.time = NOW + move
            ledger.add(ANN, record())
            await ledger.flush()
        assert (await total(ledger)).num_requests == len(moves)
        hours = await ledger.ask(ALL, lambda sums: {each.hour for each in sums})
        assert hours == {hour_of(NOW + move) for move in moves}


async def test_totals_of_the_day_and_the_month_are_loaded(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "store.db"
    async with opened(path, clock) as ledger:
        for moved in (-DAY, 0, 0):
            clock.time = NOW + moved
            ledger.add(ANN, record())
        ledger.add(Account("bob", "m", "/x"), record(1, 1))
    async with opened(path, clock) as ledger:
        for _ in range(2):
            assert ledger.totals.of("ann", "day", NOW) == {"m": Counts(2, 20, 0, 6)}
            assert ledger.totals.of("ann", "month", NOW) == {"m": Counts(3, 30, 0, 9)}
            assert ledger.totals.of("bob", "month", NOW) == {"m": Counts(1, 1, 0, 1)}
            assert ledger.totals.of("eve", "month", NOW) == {}
            await ledger.refresh()
        ledger.add(ANN, record())
        assert ledger.totals.of("ann", "day", NOW)["m"].num_requests == 3
        await ledger.refresh()
        assert ledger.totals.of("ann", "day", NOW)["m"].num_requests == 3


async def test_two_servers_share_their_totals(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with opened(path) as one, opened(path) as other:
        one.add(ANN, record())
        other.add(ANN, record())
        await one.flush()
        await other.refresh()
        assert other.totals.of("ann", "day", NOW)["m"].num_requests == 2


async def test_without_a_store_sums_stay_in_memory_for_a_while() -> None:
    clock = Clock()
    ledger = Ledger(None, clock)
    await ledger.open()
    ledger.add(ANN, record())
    clock.time += (KEPT_DAYS - 1) * DAY
    ledger.add(ANN, record())
    await ledger.flush()
    await ledger.refresh()
    assert (await total(ledger)).num_requests == 2
    clock.time += 2 * DAY
    ledger.add(ANN, record())
    assert (await total(ledger)).num_requests == 2
    assert ledger.since == NOW
    await ledger.close()


SUMS = st.dictionaries(
    st.builds(
        UsageKey,
        st.integers(0, 99).map(lambda hour: hour * HOUR),
        st.sampled_from("ab"),
        st.sampled_from("mn"),
        st.sampled_from("/x"),
        st.booleans(),
    ),
    st.builds(Counts, *[st.integers(0, 99)] * 5),
)


@given(sums=SUMS, edge=st.integers(0, 99), seconds=st.sampled_from([HOUR, DAY]))
def test_parts_of_time_and_owners_make_up_the_whole(
    sums: Mapping[UsageKey, Counts], edge: int, seconds: int
) -> None:
    end = 100 * HOUR
    parts = [
        selected(UsageQuery(first, last, owner, seconds), sums)
        for first, last in ((0, edge * HOUR), (edge * HOUR, end))
        for owner in "ab"
    ]
    counts = [each for part in parts for each in part.values()]
    assert sum(counts, Counts()) == sum(sums.values(), Counts())
    assert all(key.hour % seconds == 0 for part in parts for key in part)
