"""What is stored, and in which order it is asked for."""

from collections.abc import Sequence

from msgspec import Struct


class Record(Struct, frozen=True, kw_only=True, gc=False):
    """One object of an API, whole. `kind` and `id` name it, and `owner` is whose it is. `parent` is
    the id of the object that it belongs to, such as an item's conversation. `body` is JSON in the
    form of the kind, which the store does not read. `created_at` is in seconds since 1970."""

    kind: str
    id: str
    owner: str
    created_at: float
    body: bytes
    parent: str = ""


class Query(Struct, frozen=True, kw_only=True):
    """Records of a kind in the order in which they were stored first, or `newest_first`. They are
    those of `owner` (None: of all) and of `parent` (None: with any), behind or before the record
    `after` or `before`, and at most `limit`."""

    kind: str
    owner: str | None
    parent: str | None = None
    after: str = ""
    before: str = ""
    limit: int = 20
    newest_first: bool = False


class Page(Struct, frozen=True):
    """What a query has found. `has_more` says whether its limit has left some out."""

    records: Sequence[Record]
    has_more: bool
