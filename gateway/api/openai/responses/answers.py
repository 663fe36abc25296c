"""Responses and their parts as Structs. A field that may be absent is `UNSET`."""

from typing import Literal

from msgspec import UNSET, Raw, Struct, UnsetType

from gateway.api.openai.responses.protocol import (
    NamedConversation,
    ResponseTextFormat,
    ResponseToolChoice,
)
from gateway.chat.reasoning.wish import ReasoningEffort
from gateway.generation.events import Usage
from gateway.settings.schema import Truncation

ItemStatus = Literal["in_progress", "completed", "incomplete"]
ResponseStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
FailureCode = Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]


class TopTokenLogprob(Struct, frozen=True, gc=False):
    """`bytes` is empty for a token without text."""

    token: str
    logprob: float
    bytes: list[int]


class TextLogprob(Struct, frozen=True):
    """One token of an answer."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopTokenLogprob]


class OutputTextPart(Struct, frozen=True, tag_field="type", tag="output_text", kw_only=True):
    annotations: tuple[()] = ()
    logprobs: list[TextLogprob] = []
    text: str


class ReasoningTextPart(Struct, frozen=True, tag_field="type", tag="reasoning_text"):
    text: str


OutputPart = OutputTextPart | ReasoningTextPart


class OutputMessage(Struct, frozen=True, tag_field="type", tag="message", kw_only=True):
    """The text of the model's answer."""

    id: str
    status: ItemStatus
    role: Literal["assistant"] = "assistant"
    content: list[OutputTextPart]


class OutputReasoning(Struct, frozen=True, tag_field="type", tag="reasoning", kw_only=True):
    """The model's reasoning, in full and without a summary."""

    id: str
    status: ItemStatus
    summary: tuple[()] = ()
    content: list[ReasoningTextPart]
    encrypted_content: None = None


class OutputFunctionCall(Struct, frozen=True, tag_field="type", tag="function_call", kw_only=True):
    """A function call. `arguments` is the JSON that the model wrote; the client's result names the
    `call_id`."""

    id: str
    call_id: str
    name: str
    arguments: str
    status: ItemStatus


class OutputCompaction(Struct, frozen=True, tag_field="type", tag="compaction", kw_only=True):
    """A summary that stands for the beginning of the conversation. Clients send it back with the
    items that follow upon it."""

    id: str
    encrypted_content: str


OutputItem = OutputMessage | OutputReasoning | OutputFunctionCall | OutputCompaction


class Compaction(Struct, frozen=True):
    """A conversation was summed up before it was answered: the item, and what it took. There is no
    item if the model has written nothing."""

    item: OutputCompaction | None
    usage: Usage


class InputTokensDetails(Struct, frozen=True):
    """`cache_write_tokens` is always 0: OpenAI charges for them, and this server does not."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputTokensDetails(Struct, frozen=True):
    reasoning_tokens: int


class ResponseUsage(Struct, frozen=True):
    """Tokens of a response."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class ReportedTool(Struct, frozen=True, kw_only=True):
    """A tool of the request, as the response repeats it."""

    type: Literal["function"]
    name: str
    description: str | None
    parameters: Raw
    strict: bool


class ReportedText(Struct, frozen=True):
    """The form of the text, as the response repeats it."""

    format: ResponseTextFormat


class ReportedReasoning(Struct, frozen=True):
    effort: ReasoningEffort | None
    summary: None = None


class ResponseFailure(Struct, frozen=True):
    """Why a response failed. `code` is one of OpenAI's."""

    code: FailureCode
    message: str


class IncompleteDetails(Struct, frozen=True):
    reason: Literal["max_output_tokens"]


class Response(Struct, frozen=True, kw_only=True):
    """The answer of POST /v1/responses, and its state in the first and the last events of a stream.
    Times are Unix times in seconds. The usage comes with the end. Fields of the request are
    repeated, with their defaults."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    completed_at: int | None = None
    conversation: NamedConversation | UnsetType = UNSET
    status: ResponseStatus
    background: bool = False
    error: ResponseFailure | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None = None
    metadata: dict[str, str]
    model: str
    output: list[OutputItem] = []
    parallel_tool_calls: bool
    previous_response_id: str | None = None
    prompt_cache_key: str | None = None
    reasoning: ReportedReasoning
    safety_identifier: str | None = None
    service_tier: str | UnsetType = UNSET
    store: bool = False
    temperature: float
    text: ReportedText
    tool_choice: ResponseToolChoice
    tools: list[ReportedTool]
    top_logprobs: int
    top_p: float
    truncation: Truncation = "disabled"
    usage: ResponseUsage | UnsetType = UNSET
    user: str | UnsetType = UNSET


class InputTokens(Struct, frozen=True, kw_only=True):
    """The answer of POST /v1/responses/input_tokens: the length of the prompt in tokens."""

    object: Literal["response.input_tokens"] = "response.input_tokens"
    input_tokens: int


def usage_of(usage: Usage) -> ResponseUsage:
    """The usage under the names that responses have for it."""
    return ResponseUsage(
        usage.prompt_tokens,
        InputTokensDetails(usage.prompt_tokens_details.cached_tokens),
        usage.completion_tokens,
        OutputTokensDetails(usage.completion_tokens_details.reasoning_tokens),
        usage.total_tokens,
    )


class _Event(Struct, frozen=True, tag_field="type", kw_only=True):
    """`sequence_number` counts the events of a stream from 0."""

    sequence_number: int


class ResponseCreated(_Event, frozen=True, kw_only=True, tag="response.created"):
    response: Response


class ResponseQueued(_Event, frozen=True, kw_only=True, tag="response.queued"):
    response: Response


class ResponseInProgress(_Event, frozen=True, kw_only=True, tag="response.in_progress"):
    response: Response


class ResponseCompleted(_Event, frozen=True, kw_only=True, tag="response.completed"):
    response: Response


class ResponseIncomplete(_Event, frozen=True, kw_only=True, tag="response.incomplete"):
    response: Response


class ResponseFailed(_Event, frozen=True, kw_only=True, tag="response.failed"):
    response: Response


class ResponseError(_Event, frozen=True, kw_only=True, tag="error"):
    """The end of a stream that an error ends before there is a response."""

    code: str | None
    message: str
    param: str | None


class OutputItemAdded(_Event, frozen=True, kw_only=True, tag="response.output_item.added"):
    output_index: int
    item: OutputItem


class OutputItemDone(_Event, frozen=True, kw_only=True, tag="response.output_item.done"):
    output_index: int
    item: OutputItem


class _ItemEvent(_Event, frozen=True, kw_only=True):
    item_id: str
    output_index: int


class ContentPartAdded(_ItemEvent, frozen=True, kw_only=True, tag="response.content_part.added"):
    content_index: int = 0
    part: OutputPart


class ContentPartDone(_ItemEvent, frozen=True, kw_only=True, tag="response.content_part.done"):
    content_index: int = 0
    part: OutputPart


class OutputTextDelta(_ItemEvent, frozen=True, kw_only=True, tag="response.output_text.delta"):
    content_index: int = 0
    delta: str
    logprobs: list[TextLogprob] = []


class OutputTextDone(_ItemEvent, frozen=True, kw_only=True, tag="response.output_text.done"):
    content_index: int = 0
    text: str
    logprobs: list[TextLogprob] = []


class ReasoningTextDelta(
    _ItemEvent, frozen=True, kw_only=True, tag="response.reasoning_text.delta"
):
    content_index: int = 0
    delta: str


class ReasoningTextDone(_ItemEvent, frozen=True, kw_only=True, tag="response.reasoning_text.done"):
    content_index: int = 0
    text: str


class ArgumentsDelta(
    _ItemEvent, frozen=True, kw_only=True, tag="response.function_call_arguments.delta"
):
    delta: str


class ArgumentsDone(
    _ItemEvent, frozen=True, kw_only=True, tag="response.function_call_arguments.done"
):
    name: str
    arguments: str


ResponseEvent = (
    ResponseCreated
    | ResponseQueued
    | ResponseInProgress
    | OutputItemAdded
    | ContentPartAdded
    | OutputTextDelta
    | OutputTextDone
    | ReasoningTextDelta
    | ReasoningTextDone
    | ArgumentsDelta
    | ArgumentsDone
    | ContentPartDone
    | OutputItemDone
    | ResponseCompleted
    | ResponseIncomplete
    | ResponseFailed
    | ResponseError
)
