"""OpenAI's answers as Structs. A field that may be absent is `UNSET`; None is null."""

from collections.abc import Sequence
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from gateway.chat.finish import (
    FinishReason,
)
from gateway.generation.events import (
    Usage,
)


class CalledFunction(Struct, frozen=True):
    name: str
    arguments: str


class ChatToolCall(Struct, frozen=True):
    """A tool call in a message."""

    id: str
    function: CalledFunction
    type: Literal["function"] = "function"


class ChatMessage(Struct, frozen=True):
    """`content` is null if the message has no text, but a call or what had to become one.
    `reasoning_content` is the model's reasoning; `reasoning` is the same under vLLM's newer name.
    `function_call` is for clients that sent `functions`."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None = None
    annotations: tuple[()] = ()
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    tool_calls: list[ChatToolCall] | UnsetType = UNSET
    function_call: CalledFunction | UnsetType = UNSET


class TopLogprob(Struct, frozen=True, gc=False):
    """`bytes` is None for a token without text."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(Struct, frozen=True):
    """One token of a chat's answer."""

    token: str
    logprob: float
    bytes: list[int] | None
    top_logprobs: list[TopLogprob]


class ChatLogprobs(Struct, frozen=True):
    content: list[TokenLogprob]
    refusal: None = None


class PromptLogprob(Struct, frozen=True):
    """A token that might stand at a place of the prompt. `rank` is 1 for the likeliest of all
    tokens, and None where the engine does not say."""

    logprob: float
    rank: int | None
    decoded_token: str


PromptLogprobs = list[dict[str, PromptLogprob] | None]
"""For each token of a prompt, that token and the likeliest others by their ids. The first token
follows nothing and has None."""


class ChatChoice(Struct, frozen=True):
    """`token_ids` are there if the request has `return_token_ids`."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason
    stop_reason: str | int | None = None
    token_ids: Sequence[int] | UnsetType = UNSET


class ChatCompletion(Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    prompt_token_ids: Sequence[int] | UnsetType = UNSET
    prompt_logprobs: PromptLogprobs | UnsetType = UNSET
    service_tier: str | UnsetType = UNSET
    system_fingerprint: str | UnsetType = UNSET


class CompletionLogprobs(Struct, frozen=True):
    """Four lists of the same length, with one entry for each token. The first token of an echoed
    prompt follows no other token, so two of its entries are None. `text_offset` counts characters
    from the beginning of the text."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(Struct, frozen=True):
    """The last three fields are there if the request asks for them: `token_ids` are those that were
    generated, `prompt_token_ids` those of the choice's prompt."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason
    stop_reason: str | int | None = None
    token_ids: Sequence[int] | UnsetType = UNSET
    prompt_token_ids: Sequence[int] | UnsetType = UNSET
    prompt_logprobs: PromptLogprobs | UnsetType = UNSET


class Completion(Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage
    system_fingerprint: str | UnsetType = UNSET
