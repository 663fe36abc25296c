"""A connection to a database, as the store needs it."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from gateway.store.record import Page, Query, Record
from gateway.store.usage import Counts, UsageKey, UsageQuery


class Database(Protocol):
    """One connection, used by one thread at a time. Its methods raise StoreFull and
    StoreUnavailable."""

    def transaction(self) -> AbstractContextManager[None]:
        """A block whose changes are stored together when it ends, or not at all if an error leaves
        it."""
        ...

    def put(self, record: Record) -> None:
        """Stores the record, in place of one of the same kind, id and owner, whose order and time
        it keeps."""
        ...

    def get(self, kind: str, id: str, owner: str | None) -> Record | None:
        """The record, if it is of this owner; None as the owner is anyone."""
        ...

    def find(self, query: Query) -> Page: ...

    def delete(self, kind: str, id: str, owner: str | None) -> bool:
        """Whether there was such a record."""
        ...

    def delete_children(self, kind: str, parent: str) -> int:
        """Deletes the records of a kind that belong to a parent. Returns how many there were."""
        ...

    def add_usage(self, writer: str, number: int, counts: Mapping[UsageKey, Counts]) -> None:
        """Adds the counts to those that are stored, unless this writer has added those of this
        number, or of a greater one, before."""
        ...

    def usage_number(self, writer: str) -> int:
        """The number of what the writer has added last; 0 if there is nothing."""
        ...

    def find_usage(self, query: UsageQuery) -> dict[UsageKey, Counts]: ...

    def close(self) -> None: ...
