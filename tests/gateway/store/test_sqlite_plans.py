"""How SQLite reads lists: in the order of an index, whatever their length."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.store.record import Query, Record
from gateway.store.sqlite import SQLiteDatabase, open_sqlite


@pytest.fixture
def plans(tmp_path: Path) -> Iterator[tuple[SQLiteDatabase, list[str]]]:
    """A database, and the plans of its SELECTs so far."""
    found = list[str]()
    database = open_sqlite(tmp_path / "store.db")
    with database.transaction():
        record = Record(kind="k", id="a", owner="ann", created_at=1.0, body=b"{}", parent="p")
        database.put(record)
    other = sqlite3.connect(tmp_path / "store.db")

    def note(sql: str) -> None:
        found.extend(row[3] for row in other.execute(f"EXPLAIN QUERY PLAN {sql}"))

    database._connection.set_trace_callback(note)
    with closing(other):
        yield database, found
        database.close()


@pytest.mark.parametrize("owner", ["ann", None])
@pytest.mark.parametrize("parent", ["p", None])
@pytest.mark.parametrize("after", ["", "a"])
@pytest.mark.parametrize("newest_first", [False, True])
def test_no_list_is_sorted_and_none_is_searched_from_its_beginning(
    plans: tuple[SQLiteDatabase, list[str]],
    owner: str | None,
    parent: str | None,
    after: str,
    newest_first: bool,
):
    database, found = plans
    database.find(
        Query(kind="k", owner=owner, parent=parent, after=after, newest_first=newest_first)
    )
    assert found
    assert not any("B-TREE" in step or "SCAN records" in step for step in found)
    assert any("position" in step for step in found) == bool(after)
