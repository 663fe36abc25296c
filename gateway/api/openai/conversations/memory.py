"""What a request has to do with conversations that the server remembers."""

import secrets
import time
from collections.abc import Sequence

from gateway.admission.owner import owner_of, reader_of
from gateway.api.openai.conversations.items import NewItem
from gateway.api.openai.conversations.protocol import ItemListQuery
from gateway.api.openai.conversations.records import (
    CONVERSATION,
    added,
    changed,
    deleted,
    item_deleted,
    item_found,
    listed,
    records_of,
)
from gateway.errors import ConversationNotFound
from gateway.http.context import AnyRequest, Context
from gateway.store.record import Record
from gateway.store.store import Store
from runtime.errors import InvalidRequest


async def begin(
    context: Context, request: AnyRequest, metadata: dict[str, str], items: Sequence[NewItem]
) -> Record:
    """A new conversation with these items. Raises InvalidRequest if the server stores
    nothing."""
    if context.store is None:
        raise InvalidRequest(
            "This server stores nothing, and has no conversations. Send what was said so far in"
            " `input`.",
            param=None,
            code="store_off",
        )
    new_id, owner = f"conv_{secrets.token_hex(16)}", owner_of(request.scope)
    records = records_of(new_id, owner, time.time(), metadata, items)
    await context.store.put(*records)
    return records[0]


async def conversation(context: Context, request: AnyRequest, conversation_id: str) -> Record:
    """The conversation. Raises ConversationNotFound if this request may see none with this id."""
    reader = reader_of(request.scope)
    found = await store_of(context, conversation_id).get(CONVERSATION, conversation_id, reader)
    return _there(found, conversation_id)


async def describe(
    context: Context, request: AnyRequest, conversation_id: str, metadata: dict[str, str]
) -> Record:
    """The conversation with these metadata. Raises ConversationNotFound."""
    change = changed(conversation_id, reader_of(request.scope), metadata)
    return _there(await store_of(context, conversation_id).write(change), conversation_id)


async def forget(context: Context, request: AnyRequest, conversation_id: str) -> None:
    """Deletes the conversation with its items. Raises ConversationNotFound."""
    change = deleted(conversation_id, reader_of(request.scope))
    if not await store_of(context, conversation_id).write(change):
        raise ConversationNotFound(conversation_id)


async def add(
    context: Context, request: AnyRequest, conversation_id: str, items: Sequence[NewItem]
) -> None:
    """Adds the items, all or none. Raises ConversationNotFound, and InvalidRequest if there is no
    room for them or one of their ids is taken."""
    change = added(conversation_id, reader_of(request.scope), items, time.time(), "items")
    num_bytes = sum(len(item.body) for item in items)
    reason = await store_of(context, conversation_id).write(change, num_bytes)
    if reason is not None:
        raise reason


async def page(
    context: Context, request: AnyRequest, conversation_id: str, query: ItemListQuery
) -> bytes:
    """Items as JSON. Raises ConversationNotFound, and InvalidRequest for an unknown `after`."""
    question = listed(conversation_id, reader_of(request.scope), query)
    return await store_of(context, conversation_id).read(question)


async def item(context: Context, request: AnyRequest, conversation_id: str, item_id: str) -> Record:
    """The item. Raises ConversationNotFound and ConversationItemNotFound."""
    question = item_found(conversation_id, item_id, reader_of(request.scope))
    return await store_of(context, conversation_id).read(question)


async def forget_item(
    context: Context, request: AnyRequest, conversation_id: str, item_id: str
) -> Record:
    """The conversation that is left without the item. Raises ConversationNotFound and
    ConversationItemNotFound."""
    change = item_deleted(conversation_id, item_id, reader_of(request.scope))
    found = await store_of(context, conversation_id).write(change)
    if isinstance(found, InvalidRequest):
        raise found
    return found


def store_of(context: Context, conversation_id: str, param: str = "conversation_id") -> Store:
    """The store. Raises ConversationNotFound, which names `param`, if there is none."""
    if context.store is None:
        raise ConversationNotFound(conversation_id, is_on=False, param=param)
    return context.store


def _there(record: Record | None, conversation_id: str) -> Record:
    if record is None:
        raise ConversationNotFound(conversation_id)
    return record
