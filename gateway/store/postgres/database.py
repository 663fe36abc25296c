"""Records in PostgreSQL."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
from psycopg import errors

from gateway.errors import CommitUncertain, StoreUnavailable
from gateway.store.conditions import conditions
from gateway.store.postgres.address import address_of
from gateway.store.postgres.connection import LOCK, Connection, Limits, is_lost
from gateway.store.postgres.link import Link
from gateway.store.postgres.texts import read, written
from gateway.store.postgres.upkeep import ENTRIES, PostgresUpkeep
from gateway.store.record import Page, Query, Record
from gateway.store.usage import Counts, UsageKey, UsageQuery
from gateway.store.usage_sql import UsageSQL

_COLUMNS = "kind, id, owner, created_at, body, parent"
_TABLE = "lockgate_records"
_PUT = f"""
INSERT INTO {_TABLE} ({_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body, parent = excluded.parent
WHERE {_TABLE}.owner = excluded.owner
"""
_ONE = "kind || '' = %s AND id = %s"
"""The condition of one record. It keeps PostgreSQL to the index by id: where it knows little of the
table, it may take all of a kind or of an owner for fewer."""

_PLACE = f"SELECT position FROM {_TABLE} WHERE {_ONE}"
_BEGIN = f"BEGIN ISOLATION LEVEL READ COMMITTED; {LOCK}; SELECT pg_current_xact_id()::text"
_FATE = f"BEGIN; {LOCK}; SELECT pg_xact_status('%d'); COMMIT"


def open_postgres(url: str, limits: Limits | None = None) -> "PostgresDatabase":
    """The database at this URL, with its tables in their present form. Raises SetupError for one
    that cannot be used, or that a newer Lockgate has written."""
    return PostgresDatabase(Link(address_of(url), limits or Limits()))


class PostgresDatabase(PostgresUpkeep):
    """A connection to the server. `Database` and `Maintained` say what its methods do.

    All who change something wait for one lock first, as with SQLite, so that the order of the
    records is that in which they become visible, whichever gateway stores them. Puts are sent
    without waiting for the server, and errors of them come at the end of the transaction at the
    latest.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._changing: Connection | None = None
        self._usage = UsageSQL(self._execute, "%s", "lockgate_")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._link.told():
            connection, number = self._link.ask(_begun, self._link.limits.patience)
            self._changing = connection
            try:
                with connection.pipeline():
                    yield
            except BaseException:
                _roll_back(connection)
                self._forget_size()
                raise
            finally:
                self._changing = None
            self._commit(connection, number)

    def put(self, record: Record) -> None:
        with self._link.told():
            self._change(_PUT, _values(record))
            self._changed(len(record.body) + ENTRIES)

    def get(self, kind: str, id: str, owner: str | None) -> Record | None:
        where, values = _one(kind, id, owner)
        rows = self._rows(f"SELECT {_COLUMNS} FROM {_TABLE} WHERE {where}", values)
        return _record(rows[0]) if rows else None

    def find(self, query: Query) -> Page:
        where, values = conditions(query, "%s", _PLACE)
        order = "DESC" if query.newest_first else "ASC"
        sql = f"SELECT {_COLUMNS} FROM {_TABLE} WHERE {where} ORDER BY position {order} LIMIT %s"
        rows = self._rows(sql, [*written(values), query.limit + 1])
        return Page([_record(row) for row in rows[: query.limit]], len(rows) > query.limit)

    def delete(self, kind: str, id: str, owner: str | None) -> bool:
        where, values = _one(kind, id, owner)
        with self._link.told():
            return bool(self._delete(where, values))

    def delete_children(self, kind: str, parent: str) -> int:
        where = "kind = %s AND parent = %s AND parent <> ''"
        with self._link.told():
            return self._delete(where, written([kind, parent]))

    def add_usage(self, writer: str, number: int, counts: Mapping[UsageKey, Counts]) -> None:
        self._usage.add_usage(writer, number, counts)

    def usage_number(self, writer: str) -> int:
        return self._usage.usage_number(writer)

    def find_usage(self, query: UsageQuery) -> dict[UsageKey, Counts]:
        return self._usage.find_usage(query)

    def close(self) -> None:
        self._link.close()

    def _delete(self, where: str, values: Sequence[object]) -> int:
        """How many records that were."""
        sql = f"DELETE FROM {_TABLE} WHERE {where} RETURNING pg_column_size(body)"
        sizes = self._change(sql, values).fetchall()
        self._changed(-sum(size + ENTRIES for (size,) in sizes))
        return len(sizes)

    def _change(self, sql: str, values: Sequence[object]) -> psycopg.Cursor[Any]:
        if self._changing is not None:
            return self._changing.execute(sql.encode(), values)
        with self.transaction():
            return self._change(sql, values)

    def _execute(self, sql: str, values: Sequence[object]) -> list[Any]:
        """The rows of a question; none of a change."""
        if sql.startswith("INSERT"):
            with self._link.told():
                self._change(sql, written(values))
            return []
        rows = self._rows(sql, written(values))
        return [[read(each) if isinstance(each, str) else each for each in row] for row in rows]

    def _rows(self, sql: str, values: Sequence[object]) -> list[Any]:
        with self._link.told():
            if self._changing is not None:
                return _asked(self._changing, sql, values)
            return self._link.ask(lambda connection: _asked(connection, sql, values))

    def _commit(self, connection: Connection, number: int) -> None:
        try:
            done = connection.execute("COMMIT", prepare=False).statusmessage
        except psycopg.Error as error:
            if not is_lost(connection, error):
                raise
            self._link.lose(error)
            self._settle(number, error)
        else:
            if done != "COMMIT":
                raise StoreUnavailable("The changes were not stored: one of them has failed.")

    def _settle(self, number: int, lost: psycopg.Error) -> None:
        """Asks what has become of a transaction whose COMMIT got no answer, once it is over: it
        holds the lock until then. Raises StoreUnavailable if nothing is stored, CommitUncertain if
        that cannot be found out."""
        try:
            fate = self._link.ask(partial(_fate, number), self._link.limits.patience)
        except errors.InvalidParameterValue:  # a server that took over does not know the number
            fate = "aborted"
        except (psycopg.Error, StoreUnavailable):
            fate = None
        if fate == "aborted":
            raise StoreUnavailable("The changes were not stored: the database was lost.") from lost
        if fate != "committed":
            raise CommitUncertain(
                "The connection to the database was lost while it stored changes, and whether it"
                " has is not known."
            ) from lost


def _begun(connection: Connection) -> tuple[Connection, int]:
    """A transaction in which others change nothing, and its number."""
    return connection, int(_third_answer(connection, _BEGIN))


def _fate(number: int, connection: Connection) -> Any:
    """ "committed" or "aborted", or None where nobody knows any more."""
    return _third_answer(connection, _FATE % number)


def _third_answer(connection: Connection, statements: str) -> Any:
    try:
        cursor = connection.execute(statements.encode())
    except psycopg.Error:
        _roll_back(connection)
        raise
    cursor.nextset()
    cursor.nextset()
    (answer,) = cursor.fetchall()[0]
    return answer


def _roll_back(connection: Connection) -> None:
    """Without the answer, the connection is of no use."""
    if not connection.closed:
        try:
            connection.execute("ROLLBACK")
        except psycopg.Error:
            connection.close()


def _asked(connection: Connection, sql: str, values: Sequence[object]) -> list[Any]:
    return connection.execute(sql.encode(), values, binary=True).fetchall()


def _one(kind: str, id: str, owner: str | None) -> tuple[str, list[object]]:
    where, values = _ONE, [kind, id]
    if owner is not None:
        where, values = f"{where} AND owner = %s", [*values, owner]
    return where, written(values)


def _values(record: Record) -> list[object]:
    """In the order of the columns."""
    names = [record.kind, record.id, record.owner]
    return written([*names, record.created_at, record.body, record.parent])


def _record(row: tuple[Any, ...]) -> Record:
    kind, id, owner, created_at, body, parent = row
    return Record(
        kind=read(kind),
        id=read(id),
        owner=read(owner),
        created_at=created_at,
        body=body,
        parent=read(parent),
    )
