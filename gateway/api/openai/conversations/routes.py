"""The routes of /v1/conversations."""

from litestar import delete, get, post
from litestar.types import ASGIApp

from gateway.api.openai.bodies import (
    ADD_ITEMS_BODY,
    CREATE_CONVERSATION_BODY,
    UPDATE_CONVERSATION_BODY,
)
from gateway.api.openai.conversations.items import new_items
from gateway.api.openai.conversations.memory import (
    add,
    begin,
    conversation,
    describe,
    forget,
    forget_item,
    item,
    page,
)
from gateway.api.openai.conversations.protocol import (
    AddItems,
    Conversation,
    CreateConversation,
    DeletedConversation,
    ItemList,
    ItemListQuery,
    ItemQuery,
    UpdateConversation,
)
from gateway.api.openai.conversations.records import list_of_items, shown
from gateway.api.openai.conversations.schema_notes import note_conversations
from gateway.api.openai.query import read_query
from gateway.api.openai.responses.schema_notes import PARTS
from gateway.generation.writer import encode
from gateway.http.body import apart
from gateway.http.context import AnyRequest, CurrentContext
from gateway.http.json_response import JSONBytes
from gateway.http.route_facts import facts
from gateway.store.record import Record

PATH = "/v1/conversations"
ONE = f"{PATH}/{{conversation_id:str}}"
ITEMS = f"{ONE}/items"
ONE_ITEM = f"{ITEMS}/{{item_id:str}}"

FOUND = (404, 503)
TAKEN = (400, 413, 415, 503, 507)
CHANGED = (404, 503, 507)


@post(
    PATH,
    status_code=200,
    opt=facts(
        body=CreateConversation,
        answer=Conversation,
        errors=TAKEN,
        parts=PARTS,
        describe=note_conversations,
    ),
)
async def create_conversation(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """Begin a conversation, with items or without."""
    data = await CREATE_CONVERSATION_BODY.read(request)
    items = await apart(request, new_items, data.items or (), "items")
    return _answer(await begin(context, request, data.metadata or {}, items))


@get(ONE, opt=facts(answer=Conversation, errors=FOUND))
async def retrieve_conversation(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """A conversation without its items."""
    return _answer(await conversation(context, request, _id(request)))


@post(
    ONE,
    status_code=200,
    opt=facts(body=UpdateConversation, answer=Conversation, errors=(*TAKEN, 404)),
)
async def update_conversation(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """Replace the metadata of a conversation."""
    data = await UPDATE_CONVERSATION_BODY.read(request)
    return _answer(await describe(context, request, _id(request), data.metadata or {}))


@delete(ONE, status_code=200, opt=facts(answer=DeletedConversation, errors=CHANGED))
async def delete_conversation(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """Forget a conversation and all its items."""
    await forget(context, request, _id(request))
    return JSONBytes(encode(DeletedConversation(_id(request))))


@post(
    ITEMS,
    status_code=200,
    opt=facts(
        body=AddItems,
        query=ItemQuery,
        answer=ItemList,
        errors=(*TAKEN, 404),
        parts=PARTS,
        describe=note_conversations,
    ),
)
async def create_conversation_items(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """Add items to the end of a conversation, all or none. The answer has them as they are
    stored."""
    read_query(request, ItemQuery)
    data = await ADD_ITEMS_BODY.read(request)
    items = await apart(request, new_items, data.items, "items")
    await add(context, request, _id(request), items)
    return JSONBytes(await apart(request, list_of_items, items))


@get(ITEMS, opt=facts(query=ItemListQuery, answer=ItemList, errors=(400, *FOUND)))
async def list_conversation_items(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """The items of a conversation, the newest first unless `order` is `asc`. A page has `limit`
    items at most, and less if they are large."""
    query = read_query(request, ItemListQuery)
    return JSONBytes(await page(context, request, _id(request), query))


@get(ONE_ITEM, opt=facts(query=ItemQuery, errors=(400, *FOUND)))
async def retrieve_conversation_item(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """An item of a conversation."""
    read_query(request, ItemQuery)
    return JSONBytes((await item(context, request, _id(request), _item_id(request))).body)


@delete(ONE_ITEM, status_code=200, opt=facts(answer=Conversation, errors=CHANGED))
async def delete_conversation_item(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """Forget an item of a conversation, which is the answer."""
    return _answer(await forget_item(context, request, _id(request), _item_id(request)))


def _answer(record: Record) -> ASGIApp:
    return JSONBytes(encode(shown(record)))


def _id(request: AnyRequest) -> str:
    return str(request.path_params["conversation_id"])


def _item_id(request: AnyRequest) -> str:
    return str(request.path_params["item_id"])
