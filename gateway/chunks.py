"""What the events of streams look like, for the OpenAPI document. `gateway.frames` writes them."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from gateway.answers import ChatLogprobs, CompletionLogprobs, Usage
from runtime import FinishReason


class ChatDelta(Struct, frozen=True):
    """What is new of a message. `role` comes first, in an event of its own; the last is empty."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET


class ChatChunkChoice(Struct, frozen=True, kw_only=True):
    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class ChatCompletionChunk(Struct, frozen=True, kw_only=True):
    """An event of a streamed chat. With `stream_options.include_usage` the last one has the usage
    and no choice, and all others `usage: null`."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatChunkChoice]
    system_fingerprint: str
    service_tier: str | UnsetType = UNSET
    usage: Usage | UnsetType | None = UNSET


class CompletionChunkChoice(Struct, frozen=True, kw_only=True):
    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None


class CompletionChunk(Struct, frozen=True, kw_only=True):
    """An event of a streamed completion; the usage as in chats."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChunkChoice]
    system_fingerprint: str
    usage: Usage | UnsetType | None = UNSET
