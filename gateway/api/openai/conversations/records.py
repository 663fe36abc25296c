"""Conversations and their items as records of the store."""

from collections.abc import Callable, Sequence

import msgspec
from msgspec import Raw, Struct

from gateway.api.openai.conversations.items import NewItem, known_id, renamed
from gateway.api.openai.conversations.protocol import Conversation, ItemList, ItemListQuery
from gateway.errors import ConversationItemNotFound, ConversationNotFound
from gateway.generation.writer import encode
from gateway.store.database import Database
from gateway.store.record import Page, Query, Record
from runtime.errors import InvalidRequest

CONVERSATION = "conversation"
ITEM = "conversation.item"

MAX_ITEMS = 100_000
"""Items of a conversation."""

MAX_BYTES = 64_000_000
"""Bytes of all its items together, as JSON."""

PAGE_BYTES = 1_000_000
"""A page of items that has as many bytes ends there, whatever its limit."""


class State(Struct, frozen=True, kw_only=True):
    """The body of a conversation's record. `num_items` and `num_bytes` are those of its items."""

    metadata: dict[str, str] = {}
    num_items: int = 0
    num_bytes: int = 0


_decode_state = msgspec.json.Decoder(State).decode


def state_of(record: Record) -> State:
    return _decode_state(record.body)


def shown(record: Record) -> Conversation:
    """The conversation as its client sees it."""
    return Conversation(
        id=record.id, created_at=int(record.created_at), metadata=state_of(record).metadata
    )


def records_of(
    conversation_id: str, owner: str, now: float, metadata: dict[str, str], items: Sequence[NewItem]
) -> list[Record]:
    """A conversation that begins with these items."""
    num_bytes = sum(len(item.body) for item in items)
    state = State(metadata=metadata, num_items=len(items), num_bytes=num_bytes)
    record = Record(
        kind=CONVERSATION, id=conversation_id, owner=owner, created_at=now, body=encode(state)
    )
    return [record, *(_record(record, item, now) for item in items)]


def changed(
    conversation_id: str, reader: str | None, metadata: dict[str, str]
) -> Callable[[Database], Record | None]:
    """A change that replaces the metadata. Its result is the conversation; None if the reader may
    see none with this id."""

    def change(database: Database) -> Record | None:
        record = database.get(CONVERSATION, conversation_id, reader)
        return None if record is None else _put(database, record, metadata=metadata)

    return change


def deleted(conversation_id: str, reader: str | None) -> Callable[[Database], bool]:
    """A change that deletes a conversation with its items. Its result says whether there was
    one."""

    def change(database: Database) -> bool:
        if not database.delete(CONVERSATION, conversation_id, reader):
            return False
        database.delete_children(ITEM, conversation_id)
        return True

    return change


def added(
    conversation_id: str, reader: str | None, items: Sequence[NewItem], now: float, param: str
) -> Callable[[Database], InvalidRequest | None]:
    """A change that adds the items, all or none. Its result is the reason why it adds none."""

    def change(database: Database) -> InvalidRequest | None:
        record = database.get(CONVERSATION, conversation_id, reader)
        if record is None:
            return ConversationNotFound(conversation_id)
        if (full := no_room(conversation_id, state_of(record), items, param)) is not None:
            return full
        for index, item in enumerate(items):
            if _is_known(database, conversation_id, item):
                return known_id(item.id, f"{param}[{index}]")
        _append(database, record, items, now)
        return None

    return change


def concluded(
    conversation_id: str, records: Sequence[Record], items: Sequence[NewItem], now: float
) -> Callable[[Database], None]:
    """A change that stores the records of a response, and adds what was said to its conversation if
    that is still there. An item whose id has been taken meanwhile gets another one."""

    def change(database: Database) -> None:
        for each in records:
            database.put(each)
        record = database.get(CONVERSATION, conversation_id, None)
        if record is not None:
            new = [
                renamed(item) if _is_known(database, conversation_id, item) else item
                for item in items
            ]
            _append(database, record, new, now)

    return change


def item_found(
    conversation_id: str, item_id: str, reader: str | None
) -> Callable[[Database], Record]:
    """A question for one item. Raises ConversationNotFound and ConversationItemNotFound."""

    def ask(database: Database) -> Record:
        if database.get(CONVERSATION, conversation_id, reader) is None:
            raise ConversationNotFound(conversation_id)
        record = database.get(ITEM, _key(conversation_id, item_id), None)
        if record is None:
            raise ConversationItemNotFound(conversation_id, item_id)
        return record

    return ask


def item_deleted(
    conversation_id: str, item_id: str, reader: str | None
) -> Callable[[Database], Record | InvalidRequest]:
    """A change that deletes one item. Its result is the conversation, or what is missing."""

    def change(database: Database) -> Record | InvalidRequest:
        record = database.get(CONVERSATION, conversation_id, reader)
        if record is None:
            return ConversationNotFound(conversation_id)
        item = database.get(ITEM, key := _key(conversation_id, item_id), None)
        if item is None:
            return ConversationItemNotFound(conversation_id, item_id)
        database.delete(ITEM, key, None)
        state = state_of(record)
        return _put(
            database,
            record,
            num_items=state.num_items - 1,
            num_bytes=state.num_bytes - len(item.body),
        )

    return change


def listed(
    conversation_id: str, reader: str | None, query: ItemListQuery
) -> Callable[[Database], bytes]:
    """A question for a page of items, as JSON. Raises ConversationNotFound, and InvalidRequest for
    an item to follow upon that is not there."""

    def ask(database: Database) -> bytes:
        if database.get(CONVERSATION, conversation_id, reader) is None:
            raise ConversationNotFound(conversation_id)
        page = page_behind(
            database,
            conversation_id,
            query.after or "",
            query.limit,
            newest_first=query.order == "desc",
        )
        if page is None:
            raise InvalidRequest(
                f"`after` is `{query.after}`, which is no item of this conversation.",
                param="after",
                code="invalid_value",
            )
        records, has_more = _cut(page)
        return list_of_items(
            [NewItem(item_id_of(record), record.body) for record in records], has_more=has_more
        )

    return ask


def page_behind(
    database: Database, conversation_id: str, after: str, limit: int, *, newest_first: bool = False
) -> Page | None:
    """The items behind the item `after`, or the first ones if that is empty; None if there is no
    such item."""
    key = _key(conversation_id, after) if after else ""
    if key and database.get(ITEM, key, None) is None:
        return None
    return database.find(
        Query(
            kind=ITEM,
            owner=None,
            parent=conversation_id,
            after=key,
            limit=limit,
            newest_first=newest_first,
        )
    )


def list_of_items(items: Sequence[NewItem], *, has_more: bool = False) -> bytes:
    """A list of items as JSON."""
    return encode(
        ItemList(
            data=[Raw(item.body) for item in items],
            first_id=items[0].id if items else "",
            last_id=items[-1].id if items else "",
            has_more=has_more,
        )
    )


def no_room(
    conversation_id: str, state: State, items: Sequence[NewItem], param: str
) -> InvalidRequest | None:
    """The error for items that are too many for a conversation; None if they fit."""
    num_bytes = sum(len(item.body) for item in items)
    if state.num_items + len(items) <= MAX_ITEMS and state.num_bytes + num_bytes <= MAX_BYTES:
        return None
    return InvalidRequest(
        f"The conversation `{conversation_id}` is full: it has {state.num_items} items of"
        f" {state.num_bytes} bytes, and may have {MAX_ITEMS} of {MAX_BYTES}. Delete items, or begin"
        " a new conversation.",
        param=param,
        code="conversation_full",
    )


def _append(database: Database, record: Record, items: Sequence[NewItem], now: float) -> None:
    for item in items:
        database.put(_record(record, item, now))
    state = state_of(record)
    _put(
        database,
        record,
        num_items=state.num_items + len(items),
        num_bytes=state.num_bytes + sum(len(item.body) for item in items),
    )


def _put(database: Database, record: Record, **changes: object) -> Record:
    state = msgspec.structs.replace(state_of(record), **changes)
    new = msgspec.structs.replace(record, body=encode(state))
    database.put(new)
    return new


def _record(conversation: Record, item: NewItem, now: float) -> Record:
    return Record(
        kind=ITEM,
        id=_key(conversation.id, item.id),
        owner=conversation.owner,
        created_at=now,
        parent=conversation.id,
        body=item.body,
    )


def _cut(page: Page) -> tuple[Sequence[Record], bool]:
    """The records of a page that is not too large, at least one, and whether there are more."""
    num_bytes = 0
    for index, record in enumerate(page.records):
        num_bytes += len(record.body)
        if num_bytes >= PAGE_BYTES and index + 1 < len(page.records):
            return page.records[: index + 1], True
    return page.records, page.has_more


def _is_known(database: Database, conversation_id: str, item: NewItem) -> bool:
    return database.get(ITEM, _key(conversation_id, item.id), None) is not None


def _key(conversation_id: str, item_id: str) -> str:
    """The id of an item's record: clients may give items of several conversations one id."""
    return f"{conversation_id}/{item_id}"


def item_id_of(record: Record) -> str:
    return record.id.partition("/")[2]
