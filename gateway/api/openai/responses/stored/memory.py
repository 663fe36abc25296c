"""What a request has to do with the memory of the server."""

from collections.abc import Sequence

from msgspec import Raw

from gateway.admission.owner import owner_of, reader_of
from gateway.api.openai.responses.protocol import ResponseRequest, raw_items
from gateway.api.openai.responses.stored.records import PARTS_OF_RESPONSE, RESPONSE, Keeper, history
from gateway.errors import NotStored, PreviousNotStored
from gateway.generation.writer import encode
from gateway.http.context import AnyRequest, Context
from gateway.observability.request_record import RequestRecord
from gateway.store.database import Database
from gateway.store.record import Record
from gateway.store.store import Store


def keeper_of(context: Context, request: AnyRequest, data: ResponseRequest) -> Keeper | None:
    """What stores the response; None if it is not to be stored."""
    is_wanted = context.settings.store.responses if data.store is None else data.store
    if context.store is None or not is_wanted:
        return None
    return Keeper(context.store, owner_of(request.scope), encode(raw_items(data)))


async def earlier_items(
    context: Context, request: AnyRequest, previous: str | None
) -> Sequence[Raw]:
    """What was said up to the end of the previous response. Raises PreviousNotStored."""
    if previous is None:
        return ()
    if context.store is None:
        raise PreviousNotStored(previous)
    items = await context.store.read(history(previous, reader_of(request.scope)))
    RequestRecord.of(request.scope).earlier_bytes += sum(memoryview(item).nbytes for item in items)
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
