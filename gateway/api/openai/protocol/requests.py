"""OpenAI's requests as Structs, and the decoders of their bodies.

Every field of OpenAI's document is declared, so that each is honoured or refused on purpose
(`gateway.api.openai.translate.unsupported` has the tables). So is every further field that this
server honours, by the name that other servers give it. Null and absent mean the same.
"""

from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from gateway.api.openai.protocol.messages import Message
from gateway.api.openai.protocol.params import (
    CacheSalt,
    LogitBias,
    MaxTokens,
    Metadata,
    NumChoices,
    NumTokens,
    Penalty,
    Seed,
    ServiceTier,
    StopString,
    StopStrings,
    StopTokenIds,
    Temperature,
    TemplateVariables,
    TopK,
    TopP,
    Unchecked,
    Unsupported,
    Verbosity,
)
from gateway.api.openai.protocol.response_format import Choices, ResponseFormat, StructuredOutputs
from gateway.api.openai.protocol.tools import FunctionChoice, Functions, ToolChoice, Tools
from gateway.chat.reasoning.wish import ReasoningEffort


class StreamOptions(Struct):
    """`continuous_usage_stats` adds the usage so far to every chunk; OpenAI does not have it."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    continuous_usage_stats: bool | None = None


class WorkRequest(Struct, kw_only=True):
    """The fields of all requests that the engine works on. Without `model` the server's own model
    answers. OpenAI does not have `priority` and `deadline`."""

    model: str | None = None
    user: str | None = None
    priority: Unchecked = None
    deadline: float | None = None


class SampledRequest(WorkRequest, kw_only=True):
    """The fields of chats, completions and responses. OpenAI does not have `top_k` and the fields
    after it, and has `stop`, `seed`, the penalties and `logit_bias` not for responses."""

    temperature: Temperature | None = None
    top_p: TopP | None = None
    stop: StopString | StopStrings | None = None
    seed: Seed | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    stream: bool | None = None
    logit_bias: LogitBias | None = None
    top_k: TopK | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(ge=0.01, le=100)] | None = None
    min_tokens: NumTokens | None = None
    stop_token_ids: StopTokenIds | None = None
    ignore_eos: bool | None = None
    cache_salt: CacheSalt | None = None


class GenerationRequest(SampledRequest, kw_only=True):
    """The fields of chats and completions. OpenAI has `response_format` for chats alone, and does
    not have the fields after it."""

    n: NumChoices | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    include_stop_str_in_output: bool | None = None
    truncate_prompt_tokens: Annotated[int, Meta(ge=-1, le=2**63 - 1)] | None = None
    return_token_ids: bool | None = None
    return_tokens_as_token_ids: bool | None = None
    prompt_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    guided_regex: str | None = None
    guided_choice: Choices | None = None
    guided_grammar: str | None = None


class ChatCompletionRequest(GenerationRequest, kw_only=True):
    """The body of POST /v1/chat/completions."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    max_tokens: MaxTokens | None = None
    max_completion_tokens: MaxTokens | None = None
    metadata: Metadata | None = None
    store: bool | None = None
    service_tier: ServiceTier | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: Any = None
    prompt_cache_retention: str | None = None
    prediction: Any = None
    parallel_tool_calls: bool | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    functions: Functions | None = None
    function_call: FunctionChoice | None = None
    reasoning_effort: ReasoningEffort | None = None
    verbosity: Verbosity | None = None
    modalities: Unsupported = None
    audio: Unsupported = None
    web_search_options: Unsupported = None
    moderation: Unsupported = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: TemplateVariables | None = None
    thinking_token_budget: NumTokens | None = None
    include_reasoning: bool | None = None
    enable_thinking: bool | None = None


class CompletionRequest(GenerationRequest, kw_only=True):
    """The body of POST /v1/completions. `prompt` is a text, several, token ids, or several lists
    of them; null is the empty text."""

    prompt: str | list[str | int | list[int]] | None
    max_tokens: MaxTokens | None = None
    echo: bool | None = None
    best_of: Annotated[int, Meta(ge=0, le=20)] | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    suffix: str | None = None


T = TypeVar("T", bound=Struct)

decode_chat_completion = msgspec.json.Decoder(ChatCompletionRequest).decode
decode_completion = msgspec.json.Decoder(CompletionRequest).decode
