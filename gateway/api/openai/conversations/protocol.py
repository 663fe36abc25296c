"""Bodies, parameters and answers of /v1/conversations as Structs."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from gateway.api.openai.protocol.params import Metadata
from gateway.api.openai.responses.protocol import Includable

MAX_AT_ONCE = 20
"""Items that one request may add."""

ItemCursor = Annotated[str, Meta(min_length=1, max_length=128)]


class CreateConversation(Struct, kw_only=True):
    """The body of POST /v1/conversations."""

    items: Annotated[list[Raw], Meta(max_length=MAX_AT_ONCE)] | None = None
    metadata: Metadata | None = None


class UpdateConversation(Struct, kw_only=True):
    """The body of POST /v1/conversations/{conversation_id}. The metadata replace all that were
    there; null leaves none."""

    metadata: Metadata | None


class AddItems(Struct, kw_only=True):
    """The body of POST /v1/conversations/{conversation_id}/items."""

    items: Annotated[list[Raw], Meta(min_length=1, max_length=MAX_AT_ONCE)]


decode_create_conversation = msgspec.json.Decoder(CreateConversation).decode
decode_update_conversation = msgspec.json.Decoder(UpdateConversation).decode
decode_add_items = msgspec.json.Decoder(AddItems).decode


class ItemQuery(Struct, frozen=True, kw_only=True):
    """The parameters of a request for one item, or for those that it has added. Items come with
    all that is known of them, so `include` adds nothing."""

    include: list[Includable] = []


class ItemListQuery(ItemQuery, frozen=True, kw_only=True):
    """The parameters of GET /v1/conversations/{conversation_id}/items. `after` is the id of the
    item that the page follows upon."""

    after: ItemCursor | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"


class Conversation(Struct, frozen=True, kw_only=True):
    """A conversation without its items. `created_at` is a Unix time in seconds."""

    id: str
    object: Literal["conversation"] = "conversation"
    created_at: int
    metadata: dict[str, str]


class DeletedConversation(Struct, frozen=True):
    """The answer of DELETE /v1/conversations/{conversation_id}."""

    id: str
    object: Literal["conversation.deleted"] = "conversation.deleted"
    deleted: bool = True


class ItemList(Struct, frozen=True, kw_only=True):
    """Items of a conversation. The ids are empty if there is none."""

    object: Literal["list"] = "list"
    data: list[Raw]
    first_id: str
    last_id: str
    has_more: bool
