"""What SQLite tells of all records together."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from gateway.store.record import Record
from gateway.store.upkeep.maintained import Aged, Share, Which

_AT_ONCE = 1000
"""Places of records that are held while their records are read one by one."""


class SQLiteUpkeep(ABC):
    """The part of a database that `Maintained` adds, and describes."""

    def num_bytes(self) -> int:
        return (self._pragma("page_count") - self._pragma("freelist_count")) * self.page_size()

    def file_bytes(self) -> int:
        """The size of the file, once what waits in its log is written."""
        return self._pragma("page_count") * self.page_size()

    def page_size(self) -> int:
        return self._pragma("page_size")

    def form(self) -> int:
        """The version of the tables."""
        return self._pragma("user_version")

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
        return num_free > keep * self._pragma("page_count") and self.gives_back

    @property
    def gives_back(self) -> bool:
        """Whether the file was made so that it can become smaller bit by bit."""
        return self._pragma("auto_vacuum") == 2

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
