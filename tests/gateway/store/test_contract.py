"""What every kind of database does."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from gateway.store.database import Database
from gateway.store.record import Page, Query, Record


@pytest.fixture
def database(connect: Callable[[], Database]) -> Iterator[Database]:
    made = connect()
    yield made
    made.close()


def record(id: str, owner: str = "ann", **fields: Any) -> Record:
    fields = {"kind": "thing", "created_at": 1.5, "body": b'{"a":1}', **fields}
    return Record(id=id, owner=owner, **fields)


def stored(database: Database, *records: Record) -> None:
    with database.transaction():
        for each in records:
            database.put(each)


def ids(page: Page) -> list[str]:
    return [each.id for each in page.records]


def test_what_is_stored_is_found_by_its_owner_and_by_admins(database: Database) -> None:
    stored(database, record("x", body=b"\x00\xff", parent="p"))
    for owner in ("ann", None):
        assert database.get("thing", "x", owner) == record("x", body=b"\x00\xff", parent="p")
    for kind, id, owner in (("thing", "x", "bob"), ("thing", "y", "ann"), ("other", "x", "ann")):
        assert database.get(kind, id, owner) is None


def test_a_second_put_replaces_the_body_and_keeps_the_place(database: Database) -> None:
    stored(database, record("x"), record("y"), record("x", body=b"new", created_at=9.0))
    assert ids(database.find(Query(kind="thing", owner="ann"))) == ["x", "y"]
    assert database.get("thing", "x", "ann") == record("x", body=b"new")


def test_nobody_overwrites_what_belongs_to_another(database: Database) -> None:
    stored(database, record("x"), record("x", owner="bob", body=b"new"))
    assert database.get("thing", "x", None) == record("x")


def test_deleting(database: Database) -> None:
    stored(database, record("x"), record("y"), record("z"))
    with database.transaction():
        assert not database.delete("thing", "x", "bob")
        assert database.delete("thing", "x", "ann")
        assert not database.delete("thing", "x", "ann")
        assert database.delete("thing", "y", None)
    assert ids(database.find(Query(kind="thing", owner=None))) == ["z"]


def test_children_go_with_their_parent_alone(database: Database) -> None:
    family = [record("a", parent="p"), record("b", parent="p"), record("c", parent="q")]
    stored(database, *family, record("d"), record("e", kind="other", parent="p"))
    with database.transaction():
        assert database.delete_children("thing", "p") == 2
        assert database.delete_children("thing", "") == 0
    assert ids(database.find(Query(kind="thing", owner=None))) == ["c", "d"]


def test_a_transaction_is_whole_or_absent(
    database: Database, connect: Callable[[], Database]
) -> None:
    stored(database, record("x"))

    def change_and_fail() -> None:
        with database.transaction():
            database.put(record("y"))
            database.delete("thing", "x", None)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        change_and_fail()
    stored(database, record("z"))
    other = connect()
    assert ids(other.find(Query(kind="thing", owner=None))) == ["x", "z"]
    other.close()


def test_what_is_changed_is_seen_inside_its_transaction(database: Database) -> None:
    with database.transaction():
        database.put(record("x"))
        assert database.get("thing", "x", "ann") == record("x")
        database.put(record("y", parent="p"))
        assert ids(database.find(Query(kind="thing", owner="ann"))) == ["x", "y"]
        assert database.delete("thing", "x", None)
        assert database.delete_children("thing", "p") == 1
        assert ids(database.find(Query(kind="thing", owner="ann"))) == []


def test_a_large_body_comes_back_as_it_was(database: Database) -> None:
    body = bytes(range(256)) * 100_000
    stored(database, record("x", body=body))
    assert database.get("thing", "x", "ann") == record("x", body=body)


def test_several_may_open_a_new_database_at_once(connect: Callable[[], Database]) -> None:
    with ThreadPoolExecutor(8) as pool:
        opened = [opening.result() for opening in [pool.submit(connect) for _ in range(8)]]
    stored(opened[0], record("x"))
    for each in opened:
        assert ids(each.find(Query(kind="thing", owner=None))) == ["x"]
        each.close()


TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\0\\0"), max_size=9)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(kind=TEXTS, id=TEXTS, owner=TEXTS, parent=TEXTS, time=st.floats(allow_nan=False))
@example(kind="", id="\0", owner="\\0", parent="\\\0", time=0.1)
def test_every_text_comes_back_as_it_was(
    database: Database, kind: str, id: str, owner: str, parent: str, time: float
) -> None:
    one = record(id, owner, kind=kind, parent=parent, created_at=time)
    stored(database, one)
    assert database.get(kind, id, owner) == one
    assert database.find(Query(kind=kind, owner=owner, parent=parent)).records == [one]
    with database.transaction():
        assert not database.delete(kind, id, f"{owner}\0")
        assert database.delete(kind, id, owner)


NAMES = st.sampled_from("abcdefgh")
OWNERS = st.sampled_from(["ann", "bob"])
PARENTS = st.sampled_from(["", "p", "q"])
QUERIES = st.builds(
    Query,
    kind=st.sampled_from(["thing", "other"]),
    owner=st.none() | OWNERS,
    parent=st.none() | PARENTS,
    after=st.just("") | NAMES,
    before=st.just("") | NAMES,
    limit=st.integers(1, 9),
    newest_first=st.booleans(),
)
RECORDS = st.lists(
    st.builds(record, NAMES, OWNERS, kind=st.sampled_from(["thing", "other"]), parent=PARENTS),
    max_size=12,
)


def expected(records: list[Record], query: Query) -> Page:
    """By going through all of them, in the order in which they came first."""
    first = dict[tuple[str, str], Record]()
    for each in records:
        known = first.setdefault((each.kind, each.id), each)
        if known.owner == each.owner:
            first[each.kind, each.id] = structs.replace(each, created_at=known.created_at)
    order = [each for (kind, _), each in first.items() if kind == query.kind]
    places = {each.id: place for place, each in enumerate(order)}
    if query.newest_first:
        order.reverse()
        places = {id: -place for id, place in places.items()}
    found = [
        each
        for each in order
        if query.owner in (None, each.owner)
        and query.parent in (None, each.parent)
        and (not query.after or (query.after in places and places[each.id] > places[query.after]))
        and (
            not query.before or (query.before in places and places[each.id] < places[query.before])
        )
    ]
    return Page(found[: query.limit], len(found) > query.limit)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(records=RECORDS, queries=st.lists(QUERIES, max_size=5))
def test_lists_are_those_of_a_model(
    database: Database, records: list[Record], queries: list[Query]
) -> None:
    with database.transaction():
        for each in database.find(Query(kind="thing", owner=None, limit=99)).records:
            database.delete("thing", each.id, None)
        for each in database.find(Query(kind="other", owner=None, limit=99)).records:
            database.delete("other", each.id, None)
    stored(database, *records)
    for query in queries:
        assert database.find(query) == expected(records, query)
