"""What SQLite tells of all records together."""

import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from gateway.errors import StoreUnavailable
from gateway.store.record import Record
from gateway.store.upkeep.maintained import About, Aged, Share, Which

_INCREMENTAL = 2
"""The value of `auto_vacuum` in a file that can become smaller bit by bit."""

_PAGES_AT_ONCE = 1000
"""Pages that are copied before the program looks whether it is to end."""

_AT_ONCE = 1000
"""Places of records that are held while their records are read one by one."""


class SQLiteUpkeep(ABC):
    """The part of a database that `Maintained` adds, and describes."""

    _connection: sqlite3.Connection

    def num_bytes(self) -> int:
        num_pages = self._pragma("page_count") - self._pragma("freelist_count")
        return num_pages * self._pragma("page_size")

    def about(self) -> About:
        path = self._path()
        files = (path, path.with_name(f"{path.name}-wal"))
        return About(
            place=str(path),
            form=self._pragma("user_version"),
            num_bytes=self.num_bytes(),
            file_bytes=sum(file.stat().st_size for file in files if file.exists()),
        )

    def oldest(self, which: Which, limit: int) -> Sequence[Aged]:
        where, values = _conditions(which)
        sql = f"SELECT kind, id, created_at FROM records WHERE {where} ORDER BY created_at LIMIT ?"
        return [Aged(*row) for row in self._execute(sql, (*values, limit))]

    def give_back(self, keep: float, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while (more := self._is_loose(keep)) and time.monotonic() < end:
            self._execute("PRAGMA incremental_vacuum(1)", ())
        return more

    def _is_loose(self, keep: float) -> bool:
        """Whether more than this share is free and can be given back."""
        num_free = self._pragma("freelist_count")
        is_loose = num_free > keep * self._pragma("page_count")
        return is_loose and self._pragma("auto_vacuum") == _INCREMENTAL

    def write_back(self) -> None:
        self._execute("PRAGMA wal_checkpoint(PASSIVE)", ())

    def rewrite(self) -> None:
        self._execute("PRAGMA auto_vacuum = INCREMENTAL", ())
        self._execute("VACUUM", ())

    def back_up(self, target: Path) -> None:
        with self._snapshot(), closing(sqlite3.connect(target)) as copy:
            self._connection.backup(copy, pages=_PAGES_AT_ONCE)
            (found,) = copy.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise StoreUnavailable(f"The store is damaged, and so would be its copy: {found}.")

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """What others store meanwhile is not seen."""
        self._execute("BEGIN", ())
        try:
            self._pragma("user_version")
            yield
        finally:
            self._execute("ROLLBACK", ())

    def shares(self, which: Which) -> Sequence[Share]:
        where, values = _conditions(which)
        rows = self._execute(
            "SELECT kind, owner, count(*), sum(length(body)), min(created_at), max(created_at)"
            f" FROM records WHERE {where} GROUP BY kind, owner ORDER BY kind, owner",
            values,
        )
        names = Share.__struct_fields__
        return [Share(**dict(zip(names, row, strict=True))) for row in rows]

    def records(self, which: Which) -> Iterator[Record]:
        where, values = _conditions(which)
        sql = f"SELECT position FROM records WHERE {where} AND position > ? ORDER BY position LIMIT"
        place = 0
        while places := self._execute(f"{sql} {_AT_ONCE}", (*values, place)):
            for (place,) in places:
                yield from self._at(place)

    def _at(self, place: int) -> Iterator[Record]:
        """The record at a position; none if it was deleted."""
        columns = Record.__struct_fields__
        rows = self._execute(
            f"SELECT {', '.join(columns)} FROM records WHERE position = ?", [place]
        )
        for row in rows:
            yield Record(**dict(zip(columns, row, strict=True)))

    def _pragma(self, name: str) -> int:
        ((value,),) = self._execute(f"PRAGMA {name}", ())
        assert isinstance(value, int)
        return value

    def _path(self) -> Path:
        ((_, _, file),) = self._execute("PRAGMA database_list", ())
        return Path(file)

    @abstractmethod
    def _execute(self, sql: str, values: Any) -> list[Any]: ...


def _conditions(which: Which) -> tuple[str, list[object]]:
    """What SQL asks for after WHERE, and the values of its parameters."""
    parts, values = ["1"], list[object]()
    if which.kinds:
        parts.append(f"kind IN ({', '.join('?' * len(which.kinds))})")
        values += which.kinds
    if which.owner is not None:
        parts.append("owner = ?")
        values.append(which.owner)
    if which.before is not None:
        parts.append("created_at < ?")
        values.append(which.before)
    return " AND ".join(parts), values
