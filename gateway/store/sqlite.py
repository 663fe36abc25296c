"""A database in a file, with the SQLite that Python has."""

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gateway.errors import StoreFull, StoreUnavailable
from gateway.store.conditions import conditions
from gateway.store.migrations import migrations
from gateway.store.record import Page, Query, Record
from gateway.store.sqlite_upkeep import SQLiteUpkeep
from gateway.store.usage import Counts, UsageKey, UsageQuery
from gateway.store.usage_sql import UsageSQL
from runtime.errors import SetupError

MIGRATIONS = "sqlite_migrations"
BUSY_SECONDS = 10.0
"""How long another process may hold the file before a change fails."""

_COLUMNS = "kind, id, owner, created_at, body, parent"
_PUT = f"""
INSERT INTO records ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body, parent = excluded.parent
WHERE owner = excluded.owner
"""
_PLACE = "SELECT position FROM records WHERE kind = ? AND id = ?"


def open_sqlite(path: Path, *, upgrade: bool = True) -> "SQLiteDatabase":
    """The database in this file, which is made if it is missing, with its tables in their present
    form; without `upgrade` in the form that they have. Raises SetupError for a file that cannot be
    used, that another program or a newer Lockgate has written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = _connect(path)
    except (OSError, sqlite3.Error) as error:
        raise SetupError(
            f"store.path: {path} cannot be opened: {_reason(error)}. Set store.path, or"
            " $LOCKGATE_DATA, to where files can be written; store.enabled = false turns the"
            " memory off"
        ) from error
    try:
        if upgrade:
            _migrate(connection, path)
        else:
            _form(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise SetupError(f"store.path: {path} cannot be used: {_reason(error)}") from error
    except SetupError:
        connection.close()
        raise
    return SQLiteDatabase(connection)


class SQLiteDatabase(SQLiteUpkeep):
    """A connection to the file. `Database` and `Maintained` say what its methods do."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._usage = UsageSQL(self._execute, "?")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with _told():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def put(self, record: Record) -> None:
        values = (record.kind, record.id, record.owner, record.created_at, record.body)
        self._execute(_PUT, (*values, record.parent))

    def get(self, kind: str, id: str, owner: str | None) -> Record | None:
        sql = f"SELECT {_COLUMNS} FROM records WHERE kind = ? AND id = ?"
        rows = self._execute(sql, (kind, id))
        record = _record(rows[0]) if rows else None
        return record if record is not None and owner in (None, record.owner) else None

    def find(self, query: Query) -> Page:
        where, values = conditions(query, "?", _PLACE)
        order = "DESC" if query.newest_first else "ASC"
        sql = f"SELECT {_COLUMNS} FROM records WHERE {where} ORDER BY position {order} LIMIT ?"
        rows = self._execute(sql, (*values, query.limit + 1))
        return Page([_record(row) for row in rows[: query.limit]], len(rows) > query.limit)

    def delete(self, kind: str, id: str, owner: str | None) -> bool:
        where, values = "kind = ? AND id = ?", [kind, id]
        if owner is not None:
            where, values = f"{where} AND owner = ?", [*values, owner]
        return bool(self._execute(f"DELETE FROM records WHERE {where} RETURNING 1", values))

    def delete_children(self, kind: str, parent: str) -> int:
        sql = "DELETE FROM records WHERE kind = ? AND parent = ? AND parent <> '' RETURNING 1"
        return len(self._execute(sql, (kind, parent)))

    def add_usage(self, writer: str, number: int, counts: Mapping[UsageKey, Counts]) -> None:
        self._usage.add_usage(writer, number, counts)

    def usage_number(self, writer: str) -> int:
        return self._usage.usage_number(writer)

    def find_usage(self, query: UsageQuery) -> dict[UsageKey, Counts]:
        return self._usage.find_usage(query)

    def close(self) -> None:
        self._connection.close()

    def _execute(self, sql: str, values: Any) -> list[Any]:
        with _told():
            return self._connection.execute(sql, values).fetchall()


def _record(row: tuple[Any, ...]) -> Record:
    kind, id, owner, created_at, body, parent = row
    return Record(
        kind=kind, id=id, owner=owner, created_at=created_at, body=bytes(body), parent=parent
    )


def _connect(path: Path) -> sqlite3.Connection:
    """The file is never opened by other means: whoever closes it loses all locks of the process."""
    is_new = not path.exists() or not path.stat().st_size
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    if is_new:
        with suppress(PermissionError):  # file systems without rights
            os.chmod(path, 0o600)  # its log is made with the same ones
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # which is decided now, for ever
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Another process may do the same at the same time: one of them waits, and finds it done."""
    connection.execute("BEGIN EXCLUSIVE")
    for step in migrations(MIGRATIONS)[_form(connection, path) :]:
        for statement in _statements(step.script):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {step.version}")
    connection.execute("COMMIT")


def _form(connection: sqlite3.Connection, path: Path) -> int:
    """The version of the tables; 0 if there are none. Raises SetupError for those of others."""
    (form,) = connection.execute("PRAGMA user_version").fetchone()
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    if ("records",) not in tables if form else tables:
        raise SetupError(f"store.path: {path} is the database of another program")
    if form > (known := len(migrations(MIGRATIONS))):
        raise SetupError(
            f"store.path: {path} was written by a newer version of Lockgate (its form is"
            f" {form}, this version knows {known}). Use that version, or another file"
        )
    return int(form)


def _reason(error: Exception) -> str:
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
        return "another process has locked it. End that process, or wait until it is done"
    return getattr(error, "strerror", None) or str(error)


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


@contextmanager
def _told() -> Iterator[None]:
    """Says SQLite's errors in the store's words."""
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise StoreFull("The disk with the store is full.") from error
        raise StoreUnavailable(f"The store cannot be used now: {error}.") from error
