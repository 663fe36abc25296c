"""Sums of tokens, in every kind of database."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.store.database import Database
from gateway.store.usage import Counts, UsageKey, UsageQuery

ALL = UsageQuery(0, 10**9)


@pytest.fixture
def database(connect: Callable[[], Database]) -> Iterator[Database]:
    made = connect()
    yield made
    made.close()


def key(hour: int, owner: str = "ann", endpoint: str = "/x", *, is_batch: bool = False) -> UsageKey:
    return UsageKey(hour * 3600, owner, "m", endpoint, is_batch)


def added(database: Database, number: int, sums: dict[UsageKey, Counts], writer: str = "w") -> None:
    with database.transaction():
        database.add_usage(writer, number, sums)


def test_counts_are_added_and_kept(database: Database, connect: Callable[[], Database]) -> None:
    added(database, 1, {key(1): Counts(1, 10, 3, 5, 2), key(1, is_batch=True): Counts(1, 1)})
    added(database, 2, {key(1): Counts(2, 2**40, 1, 1, 1), key(2): Counts(0)})
    other = connect()
    assert other.find_usage(ALL) == {
        key(1): Counts(3, 2**40 + 10, 4, 6, 3),
        key(1, is_batch=True): Counts(1, 1),
        key(2): Counts(0),
    }
    other.close()


def test_what_comes_twice_is_added_once(database: Database) -> None:
    for _ in range(2):
        added(database, 1, {key(1): Counts(1)})
        added(database, 1, {key(1): Counts(1)}, writer="another")
    assert database.usage_number("w") == database.usage_number("another") == 1
    assert database.usage_number("nobody") == 0
    added(database, 3, {key(1): Counts(1)})
    added(database, 2, {key(1): Counts(1)})
    assert database.find_usage(ALL) == {key(1): Counts(3)}


def test_counts_and_their_number_come_together(database: Database) -> None:
    def fail() -> None:
        with database.transaction():
            database.add_usage("w", 1, {key(1): Counts(1)})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert database.usage_number("w") == 0
    assert database.find_usage(ALL) == {}


SUMS = st.dictionaries(
    st.builds(key, st.integers(0, 60), st.sampled_from(["ann", "bob"]), st.sampled_from("/xy")),
    st.builds(Counts, *[st.integers(0, 2**50)] * 5),
    max_size=20,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(SUMS, max_size=4),
    start=st.integers(0, 60),
    num_hours=st.integers(0, 60),
    owner=st.none() | st.sampled_from(["ann", "bob", "eve"]),
    seconds=st.sampled_from([3600, 86_400]),
)
def test_sums_are_those_of_a_model(
    database: Database,
    batches: list[dict[UsageKey, Counts]],
    start: int,
    num_hours: int,
    owner: str | None,
    seconds: int,
) -> None:
    before = database.find_usage(ALL)
    first = database.usage_number("w") + 1
    for number, batch in enumerate(batches, first):
        added(database, number, batch)
    expected: dict[UsageKey, Counts] = {}
    for sums in (before, *batches):
        for place, counts in sums.items():
            if start * 3600 <= place.hour < (start + num_hours) * 3600 and owner in (
                None,
                place.owner,
            ):
                since = place.hour // seconds * seconds
                group = UsageKey(since, place.owner, place.model, place.endpoint)
                expected[group] = expected.get(group, Counts()) + counts
    query = UsageQuery(start * 3600, (start + num_hours) * 3600, owner, seconds)
    assert database.find_usage(query) == expected
