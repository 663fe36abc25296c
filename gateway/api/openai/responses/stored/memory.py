"""What a request has to do with the memory of the server."""

from collections.abc import Callable, Sequence

from msgspec import Raw

from gateway.admission.owner import owner_of, reader_of
from gateway.api.openai.conversations.in_responses import OpenConversation
from gateway.api.openai.responses.answers import Response
from gateway.api.openai.responses.protocol import ResponseRequest, raw_items
from gateway.api.openai.responses.stored.records import PARTS_OF_RESPONSE, RESPONSE, Keeper, history
from gateway.errors import NotStored, PreviousNotStored, StoreFull
from gateway.generation.writer import encode
from gateway.http.body import count_in
from gateway.http.context import AnyRequest, Context
from gateway.observability.reports.ignored_parameters import note_ignored
from gateway.store.database import Database
from gateway.store.record import Record
from gateway.store.store import Store

NO_STORE = "this server stores nothing: `store.enabled` is off in its settings"


def keeper_of(context: Context, request: AnyRequest, data: ResponseRequest) -> Keeper | None:
    """What stores the response; None if it is not to be stored. Raises StoreFull if there is no
    room for one that is part of something stored, or that the client wants to have stored."""
    is_wanted = context.settings.store.responses if data.store is None else data.store
    if context.store is None:
        note_ignored(request.scope, {"store": NO_STORE} if data.store else {})
        return None
    if not is_wanted:
        return None
    if context.store.is_full and not data.background:  # which stores its request first
        if data.store or data.previous_response_id or data.conversation:
            raise StoreFull(
                "There is no room to store this response. Send it again later, or with"
                " `store: false`."
            )
        return None
    return Keeper(context.store, owner_of(request.scope), encode(raw_items(data)))


def keeping(
    keeper: Keeper | None, conversation: OpenConversation | None
) -> Callable[[Response], None] | None:
    """What is done with a response that is over; None for nothing. What is stored of it and what
    its conversation gets are there together or not at all."""
    if conversation is None:
        return None if keeper is None else keeper.keep

    def conclude(response: Response) -> None:
        conversation.conclude(response, () if keeper is None else keeper.records(response))

    return conclude


async def earlier_items(
    context: Context,
    request: AnyRequest,
    previous: str | None,
    conversation: OpenConversation | None = None,
) -> Sequence[Raw]:
    """What was said in the conversation, or up to the end of the previous response. Raises
    PreviousNotStored, and GatewayOverloaded if there is no memory for so much."""
    if conversation is not None:
        return conversation.earlier
    if previous is None:
        return ()
    if context.store is None:
        raise PreviousNotStored(previous)
    items = await context.store.read(history(previous, reader_of(request.scope)))
    count_in(request, sum(len(bytes(item)) for item in items))
    return items


async def stored(context: Context, request: AnyRequest, response_id: str) -> Record:
    """The response. Raises NotStored if there is none that this request may see."""
    record = await store_of(context, response_id).get(
        RESPONSE, response_id, reader_of(request.scope)
    )
    if record is None:
        raise NotStored(response_id, is_on=True)
    return record


async def forget(context: Context, request: AnyRequest, response_id: str) -> None:
    """Deletes all that is stored of a response. Raises NotStored."""
    reader = reader_of(request.scope)

    def delete_all(database: Database) -> bool:
        for kind in PARTS_OF_RESPONSE:
            database.delete(kind, response_id, reader)
        return database.delete(RESPONSE, response_id, reader)

    if not await store_of(context, response_id).write(delete_all):
        raise NotStored(response_id, is_on=True)


def store_of(context: Context, response_id: str) -> Store:
    """The store. Raises NotStored if nothing is remembered here."""
    if context.store is None:
        raise NotStored(response_id)
    return context.store
