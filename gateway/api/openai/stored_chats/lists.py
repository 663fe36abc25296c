"""Questions to the store whose answers are pages of a list."""

import re
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Raw

from gateway.api.openai.stored_chats.protocol import Listed
from gateway.api.openai.stored_chats.queries import ChatsQuery, MessagesQuery
from gateway.api.openai.stored_chats.records import (
    COMPLETION,
    LABELS,
    Labels,
    completion_of,
    decode_exchange,
    decode_labels,
)
from gateway.errors import ChatNotStored
from gateway.generation.writer import encode
from gateway.store.database import Database
from gateway.store.record import Page, Query, Record
from gateway.store.store import Store
from runtime.errors import InvalidRequest

MAX_SEARCHED = 100_000
"""Completions that one request looks at."""

STEP = 500
"""Completions that are looked at before other requests have their turn."""

MAX_BYTES = 8_000_000
"""A page that has so much is not longer, though its limit allows it."""

_ID = re.compile(r"chatcmpl-[\w-]{1,100}", re.ASCII)
_decode_list = msgspec.json.Decoder(list[Raw]).decode


def may_be_id(text: str) -> bool:
    """Whether a completion may be called so."""
    return _ID.fullmatch(text) is not None


async def completions(
    store: Store, reader: str | None, wanted: ChatsQuery, max_searched: int = MAX_SEARCHED
) -> Listed:
    """A page of the completions that the reader may see. Raises InvalidRequest if `after` is none
    of them, and if none of `max_searched` fits the filter."""
    search = _Search(reader, wanted, max_searched)
    while not search.is_over:
        await store.read(search.go_on)
    return search.page()


class _Search:
    """Goes through the labels step by step, and takes the completions that fit."""

    def __init__(self, reader: str | None, wanted: ChatsQuery, max_searched: int) -> None:
        self._reader = reader
        self._wanted = wanted
        self._left = max_searched
        self._step = STEP if wanted.is_filtered else wanted.limit + 1
        self._places: Sequence[str] = [wanted.after]
        self._ids: list[str] = []
        self._found: list[Raw] = []
        self._num_bytes = 0
        self._has_more = False
        self.is_over = False

    def go_on(self, database: Database) -> None:
        """Takes the next step."""
        labels = self._next(database)
        for record in labels.records:
            self._look_at(database, record)
            if self.is_over:
                return
        self._left -= len(labels.records)
        if not labels.has_more:
            self.is_over = True
        elif self._left <= 0:
            self._give_up(labels.records[-1].id)
        self._places = [self._wanted.after, *(record.id for record in labels.records)]

    def page(self) -> Listed:
        return listed(self._ids, self._found, has_more=self._has_more)

    def _next(self, database: Database) -> Page:
        """What follows on the last place that is still there: others may delete meanwhile. If all
        of the last step are gone, the search begins again."""
        for place in reversed(self._places):
            if _has_place(database, place, self._reader):
                page = database.find(self._query(place))
                if page.records or _has_place(database, place, self._reader):
                    return page
        raise unknown_cursor(self._wanted.after)

    def _query(self, place: str) -> Query:
        return Query(
            kind=LABELS,
            owner=self._reader,
            after=place,
            limit=self._step,
            newest_first=self._wanted.newest_first,
        )

    def _look_at(self, database: Database, record: Record) -> None:
        labels = decode_labels(record.body)
        if not _fits(labels, self._wanted) or record.id in self._ids:
            return
        if len(self._ids) == self._wanted.limit or self._num_bytes >= MAX_BYTES:
            self._has_more = self.is_over = True
            return
        stored = database.get(COMPLETION, record.id, self._reader)
        if stored is not None:
            body = completion_of(stored, labels.metadata)
            self._num_bytes += len(body)
            self._ids.append(record.id)
            self._found.append(Raw(body))

    def _give_up(self, last: str) -> None:
        """Ends a search that takes too long."""
        if not self._ids:
            raise InvalidRequest(
                "No chat completion fits the filter as far as one request searches. Go on behind"
                f" the last one that was looked at, with `after={last}`.",
                param="after",
                code="search_too_long",
            )
        self._has_more = self.is_over = True


def messages(
    completion_id: str, reader: str | None, wanted: MessagesQuery
) -> Callable[[Database], Listed]:
    """A question: a page of the messages of a completion. Raises ChatNotStored, and InvalidRequest
    if `after` is none of them."""

    def ask(database: Database) -> Listed:
        labels = database.get(LABELS, completion_id, reader)
        record = database.get(COMPLETION, completion_id, reader)
        if labels is None or record is None:
            raise ChatNotStored(completion_id, is_on=True)
        stored = _decode_list(decode_exchange(record.body).messages)
        return _messages(completion_id, stored, wanted)

    return ask


def _messages(completion_id: str, stored: Sequence[Raw], wanted: MessagesQuery) -> Listed:
    places = list(range(len(stored)))
    if wanted.newest_first:
        places.reverse()
    if wanted.after:
        ids = [_message_id(completion_id, place) for place in places]
        if wanted.after not in ids:
            raise unknown_cursor(wanted.after)
        places = places[ids.index(wanted.after) + 1 :]
    taken, num_bytes = list[int](), 0
    for place in places[: wanted.limit]:
        if num_bytes < MAX_BYTES:
            taken.append(place)
            num_bytes += len(bytes(stored[place]))
    ids = [_message_id(completion_id, place) for place in taken]
    found = [_with_id(id, stored[place]) for id, place in zip(ids, taken, strict=True)]
    return listed(ids, found, has_more=len(taken) < len(places))


def _message_id(completion_id: str, place: int) -> str:
    return f"{completion_id}-{place}"


def _with_id(id: str, message: Raw) -> Raw:
    return Raw(b'{"id":%b,%b' % (encode(id), bytes(message)[1:]))


def listed(ids: Sequence[str], found: Sequence[Raw], *, has_more: bool) -> Listed:
    """A page of these objects."""
    return Listed(
        data=list(found),
        first_id=ids[0] if ids else None,
        last_id=ids[-1] if ids else None,
        has_more=has_more,
    )


def unknown_cursor(after: str) -> InvalidRequest:
    return InvalidRequest(
        f"`after` has to be the id of an object of this list, which `{after[:100]}` is not, or not"
        " any more. Without it the list begins at its beginning.",
        param="after",
    )


def _has_place(database: Database, place: str, reader: str | None) -> bool:
    """Whether a list may go on behind it; the beginning, which is no id, is always there."""
    return not place or (may_be_id(place) and database.get(LABELS, place, reader) is not None)


def _fits(labels: Labels, wanted: ChatsQuery) -> bool:
    return wanted.model in ("", labels.model) and all(
        labels.metadata.get(key) == value for key, value in wanted.metadata.items()
    )
