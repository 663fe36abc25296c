"""The routes of a response that is stored, or made in the background."""

from typing import Annotated, Literal

from litestar import delete, get, post
from litestar.types import ASGIApp
from msgspec import Meta, Struct

from gateway.admission.middleware import NO_WORK
from gateway.admission.owner import reader_of
from gateway.api.openai.conversations.protocol import ItemList, ItemListQuery
from gateway.api.openai.query import read_query
from gateway.api.openai.responses.answers import Response, ResponseEvent
from gateway.api.openai.responses.background.background import background_of, run_of
from gateway.api.openai.responses.background.records import is_of_background, response_of
from gateway.api.openai.responses.background.replay import Replay, StoredReplay
from gateway.api.openai.responses.schema_notes import PARTS, note_responses
from gateway.api.openai.responses.stored.input_items import page_of_input
from gateway.api.openai.responses.stored.memory import forget, store_of, stored
from gateway.api.openai.responses.stored.records import EVENTS, INPUT
from gateway.errors import NotStored
from gateway.generation.writer import encode
from gateway.http.body import apart, count_in
from gateway.http.context import AnyRequest, Context, CurrentContext
from gateway.http.json_response import JSONBytes
from gateway.http.route_facts import facts
from runtime.errors import InvalidRequest

STORE_ERRORS = (404, 503)
WRITE_ERRORS = (*STORE_ERRORS, 507)


class ResponseQuery(Struct, frozen=True, kw_only=True):
    """With `stream` the answer is the events of a response that is made in the background, or was,
    and of them those after number `starting_after`."""

    stream: bool = False
    starting_after: Annotated[int, Meta(ge=0)] | None = None
    include: list[str] = []
    include_obfuscation: bool = False


@get(
    "/v1/responses/{response_id:str}",
    opt=facts(
        query=ResponseQuery,
        answer=Response,
        event=ResponseEvent,
        errors=(400, *STORE_ERRORS),
        parts=PARTS,
        describe=note_responses,
    ),
)
async def stored_response(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """A response: as it was answered, or as it is now if it is still made in the background."""
    query = read_query(request, ResponseQuery)
    response_id = _id_of(request)
    if query.stream:
        after = -1 if query.starting_after is None else query.starting_after
        return await _replay(context, request, response_id, after)
    if query.starting_after is not None:
        raise InvalidRequest(
            "`starting_after` is a place in a stream: send `stream=true` with it.",
            param="starting_after",
        )
    if (run := run_of(request, response_id)) is not None:
        return JSONBytes(encode(run.response))
    return JSONBytes((await stored(context, request, response_id)).body)


class DeletedResponse(Struct, frozen=True):
    """The answer of DELETE /v1/responses/{response_id}."""

    id: str
    object: Literal["response"] = "response"
    deleted: bool = True


@delete(
    "/v1/responses/{response_id:str}",
    status_code=200,
    opt=facts(answer=DeletedResponse, errors=WRITE_ERRORS),
)
async def delete_response(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """Forget a stored response and its input. One that is still made in the background ends.
    Responses that follow upon it cannot be followed upon any more."""
    response_id = _id_of(request)
    await forget(context, request, response_id)
    if (run := run_of(request, response_id)) is not None:
        run.forget()
    return JSONBytes(encode(DeletedResponse(response_id)))


@get(
    "/v1/responses/{response_id:str}/input_items",
    opt=facts(query=ItemListQuery, answer=ItemList, errors=(400, *STORE_ERRORS)),
)
async def stored_input_items(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """The items of a stored response's own input, in pages."""
    query = read_query(request, ItemListQuery)
    response_id = _id_of(request)
    await stored(context, request, response_id)
    record = await store_of(context, response_id).get(INPUT, response_id, reader_of(request.scope))
    if record is None:
        raise NotStored(response_id, is_on=True)
    count_in(request, len(record.body))
    return JSONBytes(await apart(request, page_of_input, response_id, record.body, query))


@post(
    "/v1/responses/{response_id:str}/cancel",
    status_code=200,
    opt={
        NO_WORK: True,
        **facts(answer=Response, errors=(400, *WRITE_ERRORS), parts=PARTS, describe=note_responses),
    },
)
async def cancel_response(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """End a response that is made in the background, with what there is of it. One that is over
    already stays as it is. To end another response, close its connection."""
    response_id = _id_of(request)
    background, run = background_of(request), run_of(request, response_id)
    if background is not None and run is not None:
        await background.cancel(run)
        return JSONBytes(encode(run.response))
    record = await stored(context, request, response_id)
    if not is_of_background(record):
        raise InvalidRequest(
            "Only a response with `background: true` can be cancelled. To end another one, close"
            " its connection.",
            param="response_id",
        )
    if background is not None:
        await background.ask_to_cancel(response_id, reader_of(request.scope))
    return JSONBytes(record.body)


async def _replay(context: Context, request: AnyRequest, response_id: str, after: int) -> ASGIApp:
    """The events of a response. Raises NotStored, and InvalidRequest if they were not kept."""
    if (run := run_of(request, response_id)) is not None and run.keeps_events:
        return Replay(run, after, context.settings.server.keep_alive_interval)
    response = response_of(await stored(context, request, response_id))
    record = await store_of(context, response_id).get(EVENTS, response_id, reader_of(request.scope))
    if record is None and response.status in ("queued", "in_progress"):
        raise InvalidRequest(
            "Another server that uses this store makes this response: its events are there, and"
            " here when it is over.",
            param="stream",
            code="response_elsewhere",
        )
    if record is None:
        raise InvalidRequest(
            "The events of this response were not kept. They are for a response that was asked for"
            " with `background: true` and `stream: true`; without `stream` there is its end.",
            param="stream",
        )
    return StoredReplay(record.body, after)


def _id_of(request: AnyRequest) -> str:
    return str(request.path_params["response_id"])
