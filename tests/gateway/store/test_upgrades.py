"""Databases of earlier forms, and what becomes of what is in them."""

import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from gateway.store import sqlite
from gateway.store.migrations import Migration
from gateway.store.record import Record
from gateway.store.sqlite import open_sqlite
from gateway.store.upkeep.maintained import Which
from runtime.errors import SetupError
from tests.kit.command_line import environment
from tests.kit.store_forms import STEPS, database_of_form

NEXT = len(STEPS) + 1
FUTURE = [
    *STEPS,
    Migration(
        NEXT,
        """
CREATE TABLE newer (
    position INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, id TEXT NOT NULL,
    owner TEXT NOT NULL, parent TEXT NOT NULL, created_at REAL NOT NULL, body BLOB NOT NULL,
    colour TEXT NOT NULL DEFAULT 'red; not blue', UNIQUE (kind, id)
);
INSERT INTO newer SELECT position, kind, id, owner, parent, created_at, body, 'red' FROM records;
DROP TABLE records;
ALTER TABLE newer RENAME TO records;
CREATE INDEX records_of_owner ON records (kind, owner, position);
""",
    ),
    Migration(NEXT + 1, "CREATE TABLE sums (hour INTEGER PRIMARY KEY);\n"),
]
"""Steps as they may come: a table that is written anew, and another one."""

UPGRADE = """
import os, sys
from pathlib import Path
from gateway.store import sqlite
from gateway.store.migrations import Migration
import msgspec

steps = msgspec.json.decode(sys.argv[2], type=list[Migration])
sqlite.migrations = lambda _: steps
statements, num_done = sqlite._statements, 0

def counted(script):
    global num_done
    for statement in statements(script):
        if num_done == int(sys.argv[3]):
            os._exit(9)  # as by kill -9
        num_done += 1
        yield statement

sqlite._statements = counted
print("ready", flush=True)
sys.stdin.readline()
sqlite.open_sqlite(Path(sys.argv[1])).close()
"""


def upgrading(path: Path, dies_after: int = 10**6) -> "subprocess.Popen[str]":
    """A process that opens the file when it is told to, and dies after so many statements."""
    command = [sys.executable, "-c", UPGRADE, str(path), msgspec.json.encode(FUTURE).decode()]
    return subprocess.Popen(
        [*command, str(dies_after)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def content(path: Path) -> list[Record]:
    with closing(open_sqlite(path)) as database:
        return list(database.records(Which()))


def form_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        ((form,),) = connection.execute("PRAGMA user_version")
        assert isinstance(form, int)
        return form


def schema_of(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")
        return {sql for (sql,) in found}


@pytest.fixture
def future(monkeypatch: pytest.MonkeyPatch) -> Sequence[Migration]:
    """This version knows steps that are still to come."""
    monkeypatch.setattr(sqlite, "migrations", lambda _: FUTURE)
    return FUTURE


def test_the_steps_are_numbered_without_gaps_and_have_whole_statements() -> None:
    assert [step.version for step in STEPS] == list(range(1, len(STEPS) + 1))
    for step in STEPS:
        assert "".join(sqlite._statements(step.script)).strip() == step.script.strip()


@pytest.mark.parametrize("form", range(len(STEPS) + 1))
def test_nothing_is_lost_on_the_way_from_an_earlier_form(tmp_path: Path, form: int) -> None:
    path, new = tmp_path / "store.db", tmp_path / "new.db"
    expected = database_of_form(path, form)
    assert content(path) == expected
    open_sqlite(new).close()
    assert form_of(path) == form_of(new) == len(STEPS)
    assert schema_of(path) == schema_of(new)


@pytest.mark.usefixtures("future")
@pytest.mark.parametrize("form", range(len(FUTURE) + 1))
def test_nothing_is_lost_by_steps_of_every_kind(tmp_path: Path, form: int) -> None:
    path = tmp_path / "store.db"
    expected = database_of_form(path, form, FUTURE)
    assert content(path) == expected
    assert form_of(path) == len(FUTURE)


@pytest.mark.usefixtures("future")
@pytest.mark.parametrize("form", [0, len(STEPS)])
def test_several_processes_upgrade_at_once(tmp_path: Path, form: int) -> None:
    path = tmp_path / "store.db"
    expected = database_of_form(path, form)
    processes = [upgrading(path) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        process.communicate("go\n")
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert (form_of(path), content(path)) == (len(FUTURE), expected)


@pytest.mark.usefixtures("future")
@pytest.mark.parametrize("num_statements", [0, 1, 2, 3, 5])
def test_a_process_that_dies_in_between_leaves_all_as_it_was(
    tmp_path: Path, num_statements: int
) -> None:
    path = tmp_path / "store.db"
    expected = database_of_form(path, len(STEPS))
    before = schema_of(path)
    process = upgrading(path, dies_after=num_statements)
    process.communicate("go\n")
    assert process.returncode == 9
    assert (form_of(path), schema_of(path)) == (len(STEPS), before)
    assert content(path) == expected
    assert form_of(path) == len(FUTURE)


def test_a_step_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.db"
    expected = database_of_form(path, len(STEPS))
    wrong = Migration(NEXT, "DELETE FROM records;\nINSERT INTO nowhere VALUES (1);\n")
    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "migrations", lambda _: [*STEPS, wrong])
        with pytest.raises(SetupError, match="no such table: nowhere"):
            open_sqlite(path)
    assert content(path) == expected


@pytest.mark.parametrize("form", [0, 1, 77])
def test_databases_of_other_programs_are_left_alone(tmp_path: Path, form: int) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
        connection.execute(f"PRAGMA user_version = {form}")
    with pytest.raises(SetupError, match=r"other\.db is the database of another program"):
        open_sqlite(path)
    assert schema_of(path) == {"CREATE TABLE songs (title TEXT)"}


def test_a_locked_file_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.db"
    open_sqlite(path).close()
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.01)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SetupError, match=r"store\.db cannot be .*: another process has lock"):
            open_sqlite(path)
