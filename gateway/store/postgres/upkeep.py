"""What PostgreSQL tells of all records together."""

import heapq
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gateway.store.postgres.connection import Connection, unhurried
from gateway.store.postgres.link import Link
from gateway.store.postgres.tables import form_of
from gateway.store.postgres.texts import read, written
from gateway.store.record import Record
from gateway.store.upkeep.maintained import About, Aged, Share, Which
from runtime.errors import SetupError

ENTRIES = 400
"""Bytes that a record takes beside its body: its names and its entries in the indexes."""

_GOOD_SECONDS = 10.0
"""How long a size holds, apart from the changes that are made here."""

_SAMPLE = 2000
"""Pages of the table from which its size is estimated, if it has more."""

_AT_ONCE = 1000
_SIZES = f"""
SELECT coalesce(sum(pg_column_size(body) + {ENTRIES}), 0)
FROM lockgate_records TABLESAMPLE SYSTEM (%s) REPEATABLE (0)
"""
_NUM_PAGES = """
SELECT pg_relation_size('lockgate_records') / current_setting('block_size')::integer
"""
_SHARES = """
SELECT kind, owner, count(*), sum(octet_length(body))::bigint, min(created_at), max(created_at)
FROM lockgate_records WHERE {where} GROUP BY kind, owner ORDER BY kind, owner
"""


class PostgresUpkeep(ABC):
    """The part of a database that `Maintained` adds, and describes."""

    _link: Link
    _num_bytes = 0
    _good_until = 0.0

    def num_bytes(self) -> int:
        """Free room is the database's affair, which keeps it for what comes next, so that the size
        of its files says little. This is estimated from a part of the table."""
        if time.monotonic() > self._good_until:
            self._num_bytes = self._estimate()
            self._good_until = time.monotonic() + _GOOD_SECONDS
        return self._num_bytes

    def about(self) -> About:
        ((size,),) = self._rows("SELECT pg_total_relation_size('lockgate_records')", ())
        with self._link.told():
            form = self._link.ask(form_of)
        return About(
            place=str(self._link.address),
            form=form,
            num_bytes=self.num_bytes(),
            file_bytes=size,
        )

    def oldest(self, which: Which, limit: int) -> Sequence[Aged]:
        where, values = _conditions(which)
        sql = f"SELECT kind, id, created_at FROM lockgate_records WHERE {where}"
        rows = self._rows(f"{sql} ORDER BY created_at LIMIT %s", [*values, limit])
        return [Aged(read(kind), read(id), created_at) for kind, id, created_at in rows]

    def give_back(self, keep: float, seconds: float) -> bool:
        return False

    def write_back(self) -> None:
        self._unhurried("VACUUM lockgate_records", ())

    def rewrite(self) -> None:
        self._unhurried("VACUUM (FULL, ANALYZE) lockgate_records", ())

    def back_up(self, target: Path) -> None:
        raise SetupError(
            f"{self._link.address} is a PostgreSQL database; back it up with"
            " pg_dump -t 'lockgate_*', or write what is stored with `lockgate store export`"
        )

    def shares(self, which: Which) -> Sequence[Share]:
        where, values = _conditions(which)
        return [
            Share(
                kind=read(kind),
                owner=read(owner),
                num_records=num_records,
                num_bytes=num_bytes,
                oldest=oldest,
                newest=newest,
            )
            for kind, owner, num_records, num_bytes, oldest, newest in self._unhurried(
                _SHARES.format(where=where), values
            )
        ]

    def records(self, which: Which) -> Iterator[Record]:
        where, values = _conditions(which)
        sql = f"SELECT DISTINCT kind FROM lockgate_records WHERE {where}"
        kinds = [kind for (kind,) in self._unhurried(sql, values)]
        for _, kind, id in heapq.merge(*(self._places(kind, which) for kind in kinds)):
            if (record := self.get(kind, id, which.owner)) is not None:
                yield record

    def _places(self, kind: str, which: Which) -> Iterator[tuple[int, str, str]]:
        """Position, kind and id of records of a kind, in their order. `kind` is as it is stored."""
        where, values = _conditions(which)
        sql = (
            f"SELECT position, kind, id FROM lockgate_records WHERE {where} AND kind = %s"
            f" AND position > %s ORDER BY position LIMIT {_AT_ONCE}"
        )
        place = 0
        while rows := self._rows(sql, [*values, kind, place]):
            for place, _, id in rows:
                yield place, read(kind), read(id)

    def _changed(self, num_bytes: int) -> None:
        """Notes that the bodies of all records, and what belongs to them, take so much more."""
        self._num_bytes += num_bytes

    def _forget_size(self) -> None:
        self._good_until = 0.0

    def _estimate(self) -> int:
        ((num_pages,),) = self._rows(_NUM_PAGES, ())
        percent = min(100.0, 100.0 * _SAMPLE / max(num_pages, 1))
        ((num_bytes,),) = self._rows(_SIZES, [percent])
        return int(float(num_bytes) * 100.0 / percent)

    def _unhurried(self, sql: str, values: Sequence[object]) -> list[Any]:
        """For what may take minutes, outside of transactions."""

        def ask(connection: Connection) -> list[Any]:
            with unhurried(connection, self._link.limits):
                cursor = connection.execute(sql.encode(), values, binary=True)
                return cursor.fetchall() if cursor.description else []

        with self._link.told():
            return self._link.ask(ask)

    @abstractmethod
    def get(self, kind: str, id: str, owner: str | None) -> Record | None: ...

    @abstractmethod
    def _rows(self, sql: str, values: Sequence[object]) -> list[Any]: ...


def _conditions(which: Which) -> tuple[str, list[object]]:
    """What SQL asks for after WHERE, and the values of its parameters."""
    parts, values = ["true"], list[object]()
    if which.kinds:
        parts.append("kind = ANY(%s)")
        values.append(written(which.kinds))
    if which.owner is not None:
        parts.append("owner = %s")
        values += written([which.owner])
    if which.before is not None:
        parts.append("created_at < %s")
        values.append(which.before)
    return " AND ".join(parts), values
