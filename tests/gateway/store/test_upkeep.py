"""What a database tells of all its records, and what other processes do to it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.store.record import Record
from gateway.store.sqlite import SQLiteDatabase, open_sqlite
from gateway.store.upkeep.maintained import Aged, Maintained, Share, Which
from tests.kit.command_line import environment


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SQLiteDatabase]:
    with closing(open_sqlite(tmp_path / "store.db")) as made:
        yield made


def record(kind: str, id: str, **fields: Any) -> Record:
    fields = {"owner": "ann", "created_at": 1.0, "body": b"{}", **fields}
    return Record(kind=kind, id=id, **fields)


RECORDS = st.lists(
    st.builds(
        record,
        st.sampled_from(["a", "b", "c"]),
        st.uuids().map(str),
        owner=st.sampled_from(["ann", "bob", ""]),
        created_at=st.integers(0, 9).map(float),
        body=st.binary(max_size=9),
    ),
    max_size=12,
)
CHOICES = st.builds(
    Which,
    kinds=st.lists(st.sampled_from(["a", "b", "d"]), unique=True),
    owner=st.none() | st.sampled_from(["ann", "bob", ""]),
    before=st.none() | st.integers(0, 9).map(float),
)


def is_meant(which: Which, each: Record) -> bool:
    return (
        (not which.kinds or each.kind in which.kinds)
        and which.owner in (None, each.owner)
        and (which.before is None or each.created_at < which.before)
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(records=RECORDS, which=CHOICES, limit=st.integers(1, 9))
def test_all_records_are_told_as_by_going_through_them(
    database: SQLiteDatabase, records: list[Record], which: Which, limit: int
) -> None:
    with database.transaction():
        for each in list(database.records(Which())):
            database.delete(each.kind, each.id, None)
        for each in records:
            database.put(each)
    meant = [each for each in records if is_meant(which, each)]
    assert list(database.records(which)) == meant
    by_age = sorted(meant, key=lambda each: each.created_at)
    found = database.oldest(which, limit)
    assert [each.created_at for each in found] == [each.created_at for each in by_age[:limit]]
    assert set(found) <= {Aged(each.kind, each.id, each.created_at) for each in meant}
    assert list(database.shares(which)) == [
        Share(
            kind=kind,
            owner=owner,
            num_records=len(group),
            num_bytes=sum(len(each.body) for each in group),
            oldest=min(each.created_at for each in group),
            newest=max(each.created_at for each in group),
        )
        for kind, owner in sorted({(each.kind, each.owner) for each in meant})
        if (group := [each for each in meant if (each.kind, each.owner) == (kind, owner)])
    ]


def test_records_that_are_deleted_meanwhile_are_left_out(database: SQLiteDatabase) -> None:
    for id in "abc":
        database.put(record("x", id))
    found = []
    for each in database.records(Which()):
        found.append(each.id)
        database.delete("x", "b", None)
    assert found == ["a", "c"]


def test_it_can_be_kept_in_bounds(database: SQLiteDatabase) -> None:
    assert isinstance(database, Maintained)


@pytest.mark.posix("rights of files")
def test_only_its_user_may_read_the_file(tmp_path: Path, database: SQLiteDatabase) -> None:
    database.put(record("x", "a"))
    modes = {file.name: file.stat().st_mode & 0o77 for file in tmp_path.iterdir()}
    assert modes == {"store.db": 0, "store.db-wal": 0, "store.db-shm": 0}


def test_other_processes_come_and_go(tmp_path: Path, database: SQLiteDatabase) -> None:
    """One that closes the file must not take itself for the last, and remove the log."""
    path = tmp_path / "store.db"
    code = (
        "import sys, pathlib; from gateway.store.sqlite import open_sqlite;"
        " open_sqlite(pathlib.Path(sys.argv[1])).close()"
    )
    with closing(open_sqlite(path)) as second:
        database.put(record("x", "a"))
        command = [sys.executable, "-c", code, str(path)]
        subprocess.run(command, check=True, env=environment())
        assert path.with_name("store.db-wal").exists()
        database.put(record("x", "b"))
        second.put(record("x", "c"))
        assert [each.id for each in second.records(Which())] == ["a", "b", "c"]


def test_a_backup_is_a_store_of_what_was_there_when_it_began(
    tmp_path: Path, database: SQLiteDatabase
) -> None:
    with database.transaction():
        for number in range(500):
            database.put(record("x", str(number), body=b"x" * 20_000))
    with closing(open_sqlite(tmp_path / "store.db")) as other:
        copied = tmp_path / "copy.db"
        database.back_up(copied)
        other.put(record("x", "later"))
    with closing(open_sqlite(copied)) as copy:
        assert [each.id for each in copy.records(Which())] == [str(n) for n in range(500)]
        copy.put(record("x", "own"))


def test_room_is_given_back_and_the_rest_is_as_before(
    tmp_path: Path, database: SQLiteDatabase
) -> None:
    path = tmp_path / "store.db"
    for number in range(100):
        database.put(record("x", str(number), body=b"x" * 20_000))
    database.write_back()
    full = path.stat().st_size
    for number in range(0, 100, 2):
        database.delete("x", str(number), None)
    while database.give_back(0.0, seconds=0.001):
        pass
    database.write_back()
    assert path.stat().st_size == database.num_bytes() < 0.6 * full
    database.rewrite()
    assert [int(each.id) for each in database.records(Which())] == list(range(1, 100, 2))
