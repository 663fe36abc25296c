"""The events of streams as Structs, for the OpenAPI document alone: `writers` builds their bytes by
hand."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from gateway.api.openai.protocol.answers import ChatLogprobs, CompletionLogprobs
from gateway.chat.finish import FinishReason
from gateway.generation.events import Usage


class FunctionDelta(Struct, frozen=True):
    """The first delta has the whole name; the arguments follow in pieces of JSON."""

    name: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET


class ToolCallDelta(Struct, frozen=True, kw_only=True):
    """More of the tool call number `index`. The first delta of a call has its `id`, `type` and
    name."""

    index: int
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET
    function: FunctionDelta | UnsetType = UNSET


class ChatDelta(Struct, frozen=True):
    """More of a message. The first event has only the `role`, and the last one is empty.
    `reasoning_content` and `reasoning` are the same. `function_call` is for clients that sent
    `functions`."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType | None = UNSET
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    tool_calls: list[ToolCallDelta] | UnsetType = UNSET
    function_call: FunctionDelta | UnsetType = UNSET


class ChatChunkChoice(Struct, frozen=True, kw_only=True):
    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None
    stop_reason: str | int | UnsetType | None = UNSET
    token_ids: list[int] | UnsetType = UNSET


class ChatCompletionChunk(Struct, frozen=True, kw_only=True):
    """An event of a streamed chat. With `stream_options.include_usage` the last chunk has the usage
    and no choice, and every other chunk has `usage: null`. With `return_token_ids` the first chunk
    of each choice has `prompt_token_ids`."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatChunkChoice]
    system_fingerprint: str | UnsetType = UNSET
    service_tier: str | UnsetType = UNSET
    usage: Usage | UnsetType | None = UNSET
    prompt_token_ids: list[int] | UnsetType = UNSET


class CompletionChunkChoice(Struct, frozen=True, kw_only=True):
    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None
    stop_reason: str | int | UnsetType | None = UNSET
    token_ids: list[int] | UnsetType = UNSET
    prompt_token_ids: list[int] | UnsetType = UNSET


class CompletionChunk(Struct, frozen=True, kw_only=True):
    """An event of a streamed completion. Its usage is as in chats."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChunkChoice]
    system_fingerprint: str | UnsetType = UNSET
    usage: Usage | UnsetType | None = UNSET
