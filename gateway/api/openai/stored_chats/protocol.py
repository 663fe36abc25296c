"""Stored chat completions as OpenAI's API says them."""

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from gateway.api.openai.protocol.answers import CalledFunction, ChatCompletion, ChatToolCall
from gateway.api.openai.protocol.messages import Part
from gateway.api.openai.protocol.params import Metadata


class StoredCompletion(ChatCompletion, frozen=True, kw_only=True):
    """A chat completion as it was answered, with its labels."""

    metadata: Mapping[str, str] = {}


class ChatUpdate(Struct, kw_only=True):
    """The body of POST /v1/chat/completions/{completion_id}. Null is no labels at all."""

    metadata: Metadata | None


class DeletedCompletion(Struct, frozen=True):
    """The answer of DELETE /v1/chat/completions/{completion_id}."""

    id: str
    object: Literal["chat.completion.deleted"] = "chat.completion.deleted"
    deleted: bool = True


class StoredMessage(Struct, frozen=True, kw_only=True):
    """A message of the request. `content` is null if it was sent in parts, which are in
    `content_parts` then."""

    role: str
    content: str | None
    refusal: str | None = None
    name: str | None = None
    content_parts: list[Part] | None = None
    tool_calls: list[ChatToolCall] | UnsetType = UNSET
    function_call: CalledFunction | UnsetType = UNSET
    tool_call_id: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET


class ListedMessage(StoredMessage, frozen=True, kw_only=True):
    """The same with its id: that of the completion, and its place."""

    id: str


class CompletionList(Struct, frozen=True, kw_only=True):
    """The answer of GET /v1/chat/completions."""

    object: Literal["list"] = "list"
    data: list[StoredCompletion]
    first_id: str | None
    last_id: str | None
    has_more: bool


class MessageList(Struct, frozen=True, kw_only=True):
    """The answer of GET /v1/chat/completions/{completion_id}/messages."""

    object: Literal["list"] = "list"
    data: list[ListedMessage]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Listed(Struct, frozen=True, kw_only=True):
    """A page of either, whose objects are JSON already."""

    object: Literal["list"] = "list"
    data: list[Any]
    first_id: str | None
    last_id: str | None
    has_more: bool
