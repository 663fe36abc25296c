"""What requests about chats have to do with the memory of the server."""

from gateway.admission.owner import owner_of, reader_of
from gateway.api.openai.protocol.requests import ChatCompletionRequest
from gateway.api.openai.stored_chats.lists import completions, may_be_id, messages
from gateway.api.openai.stored_chats.messages import encoded_messages
from gateway.api.openai.stored_chats.protocol import Listed
from gateway.api.openai.stored_chats.queries import ChatsQuery, MessagesQuery
from gateway.api.openai.stored_chats.records import (
    COMPLETION,
    KINDS,
    LABELS,
    Keeper,
    Labels,
    completion_of,
    decode_labels,
)
from gateway.bounds.body_memory import keep
from gateway.errors import ChatNotStored
from gateway.generation.writer import encode
from gateway.http.body import apart
from gateway.http.context import AnyRequest, Context
from gateway.observability.reports.ignored_parameters import note_ignored
from gateway.store.database import Database
from gateway.store.record import Record
from gateway.store.store import Store

NO_STORE = "this server stores nothing: `store.enabled` is off in its settings"


async def keeper_of(
    context: Context, request: AnyRequest, data: ChatCompletionRequest
) -> Keeper | None:
    """What stores the completion; None if it is not to be stored, or cannot be."""
    is_wanted = context.settings.store.chat_completions if data.store is None else data.store
    if not is_wanted:
        return None
    if context.store is None:
        note_ignored(request.scope, {"store": NO_STORE} if data.store else {})
        return None
    encoded = await apart(request, encoded_messages, data.messages)
    keep(request.scope, len(encoded))
    return Keeper(context.store, owner_of(request.scope), encoded, data.metadata or {})


async def list_stored(context: Context, request: AnyRequest, wanted: ChatsQuery) -> Listed:
    """A page of the completions. Raises InvalidRequest."""
    return await completions(_store_of(context), reader_of(request.scope), wanted)


async def list_messages(
    context: Context, request: AnyRequest, completion_id: str, wanted: MessagesQuery
) -> Listed:
    """A page of a completion's messages. Raises ChatNotStored and InvalidRequest."""
    store = _store_of(context, completion_id)
    return await store.read(messages(completion_id, reader_of(request.scope), wanted))


async def stored(context: Context, request: AnyRequest, completion_id: str) -> bytes:
    """The completion as JSON. Raises ChatNotStored."""
    reader = reader_of(request.scope)

    def ask(database: Database) -> bytes:
        completion, labels = _found(database, completion_id, reader)
        return completion_of(completion, decode_labels(labels.body).metadata)

    return await _store_of(context, completion_id).read(ask)


async def relabel(
    context: Context, request: AnyRequest, completion_id: str, metadata: dict[str, str]
) -> bytes:
    """Gives the completion these labels in place of all that it has. Returns it as JSON. Raises
    ChatNotStored."""
    reader = reader_of(request.scope)

    def change(database: Database) -> bytes | None:
        found = _find(database, completion_id, reader)
        if found is None:
            return None
        completion, labels = found
        model = decode_labels(labels.body).model
        database.put(_relabelled(labels, Labels(model, metadata)))
        return completion_of(completion, metadata)

    changed = await _store_of(context, completion_id).write(change)
    if changed is None:
        raise ChatNotStored(completion_id, is_on=True)
    return changed


async def forget(context: Context, request: AnyRequest, completion_id: str) -> None:
    """Deletes the completion with its messages. Raises ChatNotStored."""
    reader = reader_of(request.scope)

    def delete(database: Database) -> bool:
        were_there = [database.delete(kind, completion_id, reader) for kind in KINDS]
        return any(were_there)

    if not await _store_of(context, completion_id).write(delete):
        raise ChatNotStored(completion_id, is_on=True)


def _found(database: Database, completion_id: str, reader: str | None) -> tuple[Record, Record]:
    found = _find(database, completion_id, reader)
    if found is None:
        raise ChatNotStored(completion_id, is_on=True)
    return found


def _find(
    database: Database, completion_id: str, reader: str | None
) -> tuple[Record, Record] | None:
    """The completion and its labels."""
    labels = database.get(LABELS, completion_id, reader)
    completion = database.get(COMPLETION, completion_id, reader)
    return None if labels is None or completion is None else (completion, labels)


def _relabelled(record: Record, labels: Labels) -> Record:
    return Record(
        kind=LABELS,
        id=record.id,
        owner=record.owner,
        created_at=record.created_at,
        body=encode(labels),
    )


def _store_of(context: Context, completion_id: str = "") -> Store:
    """Raises ChatNotStored if nothing is stored, or can be called so."""
    if context.store is None:
        raise ChatNotStored(completion_id)
    if completion_id and not may_be_id(completion_id):
        raise ChatNotStored(completion_id, is_on=True)
    return context.store
