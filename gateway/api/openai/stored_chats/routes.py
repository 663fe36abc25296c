"""Routes of stored chat completions: GET /v1/chat/completions and the paths below it."""

from collections.abc import Mapping

import msgspec
from litestar import delete, get, post
from litestar.exceptions import NotFoundException
from litestar.types import ASGIApp
from msgspec import Raw

from gateway.api.openai.query import read_query
from gateway.api.openai.stored_chats.lists import may_be_id
from gateway.api.openai.stored_chats.memory import (
    forget,
    list_messages,
    list_stored,
    relabel,
    stored,
)
from gateway.api.openai.stored_chats.protocol import (
    ChatUpdate,
    CompletionList,
    DeletedCompletion,
    MessageList,
    StoredCompletion,
)
from gateway.api.openai.stored_chats.queries import ChatsQuery, MessagesQuery
from gateway.errors import UnknownModel
from gateway.generation.writer import encode
from gateway.http.body import JSONBody
from gateway.http.context import AnyRequest, Context, CurrentContext
from gateway.http.decoding import Settled
from gateway.http.json_response import JSONBytes
from gateway.http.route_facts import facts


def _settle(data: ChatUpdate, fields: Mapping[str, Raw]) -> Settled[ChatUpdate]:
    return Settled(data=data, unknown=sorted(fields.keys() - {"metadata"}))


UPDATE_BODY = JSONBody(ChatUpdate, msgspec.json.Decoder(ChatUpdate).decode, _settle)

ONE = "/v1/chat/completions/{completion_id:str}"


@get(
    "/v1/chat/completions",
    opt=facts(query=ChatsQuery, answer=CompletionList, errors=(400, 404, 503)),
)
async def list_chat_completions(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """The stored chat completions, oldest first, by pages: `after`, `limit`, `order`. `model` and
    `metadata[key]` choose among them."""
    wanted = read_query(request, ChatsQuery)
    if wanted.model:
        wanted = msgspec.structs.replace(wanted, model=_full_name(context, wanted.model))
    return JSONBytes(encode(await list_stored(context, request, wanted)))


@get(ONE, opt=facts(answer=StoredCompletion, errors=(404, 503)))
async def stored_chat_completion(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """A stored chat completion, as it was answered, with its labels."""
    return JSONBytes(await stored(context, request, _id_of(request)))


@post(
    ONE,
    status_code=200,
    opt=facts(body=ChatUpdate, answer=StoredCompletion, errors=(400, 404, 413, 415, 503, 507)),
)
async def update_chat_completion(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """Give a stored chat completion other labels, in place of all that it has."""
    completion_id = _id_of(request)
    if not may_be_id(completion_id):
        raise NotFoundException  # an action of another server
    data = await UPDATE_BODY.read(request)
    return JSONBytes(await relabel(context, request, completion_id, data.metadata or {}))


@delete(ONE, status_code=200, opt=facts(answer=DeletedCompletion, errors=(404, 503, 507)))
async def delete_chat_completion(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """Forget a stored chat completion and its messages."""
    completion_id = _id_of(request)
    await forget(context, request, completion_id)
    return JSONBytes(encode(DeletedCompletion(completion_id)))


@get(f"{ONE}/messages", opt=facts(query=MessagesQuery, answer=MessageList, errors=(400, 404, 503)))
async def stored_chat_messages(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """The messages of the request of a stored chat completion, by pages: `after`, `limit`,
    `order`."""
    wanted = read_query(request, MessagesQuery)
    found = await list_messages(context, request, _id_of(request), wanted)
    return JSONBytes(encode(found))


def _id_of(request: AnyRequest) -> str:
    return str(request.path_params["completion_id"])


def _full_name(context: Context, name: str) -> str:
    """The name that answers have of a model; a model that is not served any more keeps its own."""
    try:
        return context.models.get(name).name
    except UnknownModel:
        return name
