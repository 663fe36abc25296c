"""What a database tells of its records as a whole, for keeping it in bounds."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from msgspec import Struct

from gateway.store.database import Database
from gateway.store.record import Record


class Which(Struct, frozen=True):
    """Records of `kinds` (empty: of all) and of `owner` (None: of all), stored before `before`,
    which is in seconds since 1970."""

    kinds: Sequence[str] = ()
    owner: str | None = None
    before: float | None = None


class Aged(Struct, frozen=True):
    """A record, and when it was stored, in seconds since 1970."""

    kind: str
    id: str
    created_at: float


class Share(Struct, frozen=True, kw_only=True):
    """What one owner has of one kind. `num_bytes` are those of the bodies. `oldest` and `newest`
    are in seconds since 1970."""

    kind: str
    owner: str
    num_records: int
    num_bytes: int
    oldest: float
    newest: float


class About(Struct, frozen=True, kw_only=True):
    """A database: where it is, the version of its tables, and bytes. `num_bytes` are those of
    `num_bytes()`, `file_bytes` those that it takes of the disk."""

    place: str
    form: int
    num_bytes: int
    file_bytes: int


@runtime_checkable
class Maintained(Database, Protocol):
    """A database that can be kept in bounds."""

    def num_bytes(self) -> int:
        """What all records take, with what finds them. Room that is free again does not count."""
        ...

    def oldest(self, which: Which, limit: int) -> Sequence[Aged]:
        """At most so many of these records, those first that were stored first."""
        ...

    def give_back(self, keep: float, seconds: float) -> bool:
        """Works for about so long at giving free room back to the file system, except a share
        `keep` of all that new records can take. Whether there is more to give back."""
        ...

    def write_back(self) -> None:
        """Puts changes that wait in a log where they belong, as far as that disturbs nobody."""
        ...

    def rewrite(self) -> None:
        """Writes the whole database anew, without free room. Others cannot store meanwhile."""
        ...

    def back_up(self, target: Path) -> None:
        """Copies all that is stored now into this file, which is empty. Others may store and read
        meanwhile. Raises SetupError where that is another program's work."""
        ...

    def about(self) -> About: ...

    def shares(self, which: Which) -> Sequence[Share]:
        """By kind and owner, in their order."""
        ...

    def records(self, which: Which) -> Iterator[Record]:
        """All of these, in the order in which they were stored first. Those that come or go
        meanwhile may be missing."""
        ...
