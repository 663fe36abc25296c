"""A request for a response to its job. Pure."""

from collections.abc import Mapping, Sequence

from gateway.api.openai.protocol.response_format import JSONObjectFormat
from gateway.api.openai.responses.protocol import (
    InputTokensRequest,
    JSONSchemaTextFormat,
    ResponseRequest,
    ResponseTool,
    input_items,
)
from gateway.api.openai.responses.tools import find_tool_use
from gateway.api.openai.responses.turns import turns_of
from gateway.api.openai.translate.checks import check_stream_options
from gateway.api.openai.translate.sampling import shared_params
from gateway.api.openai.translate.structured_output import json_object
from gateway.chat.conversation import Conversation
from gateway.chat.reasoning.wish import ReasoningWish
from gateway.chat.schemas import check_length, closed_schema_text
from gateway.generation.job import Job, TokenLimit
from gateway.generation.scheduling import Caller, SchedulingWish, scheduling_of
from runtime.messages.structured_output import StructuredOutput

LOGPROBS = "message.output_text.logprobs"

PARAM_NAMES: Mapping[str, str] = {
    "prompt": "input",
    "max_tokens": "max_output_tokens",
    "logprobs": "include",
}
"""Names of a response's parameters that an engine's errors name otherwise."""


def response_job(
    data: ResponseRequest,
    tools: Sequence[ResponseTool],
    job_id: str,
    caller: Caller,
    lora: str = "",
) -> Job:
    """The job of a response with these tools. `lora` is the adapter that the model's name stands
    for; "" is no adapter. Raises InvalidRequest, and PermissionDenied for what the caller's key
    does not allow."""
    check_stream_options(data)
    return Job(
        id=job_id,
        prompt=conversation_of(data, tools, _wish(data)),
        sampling=shared_params(data, structured_output(data), logprobs=num_logprobs(data)),
        limit=TokenLimit(num_tokens=data.max_output_tokens, param="max_output_tokens"),
        scheduling=scheduling_of(scheduling_wish(data), caller, lora),
        seed=data.seed,
        is_streamed=bool(data.stream),
        param_names=PARAM_NAMES,
    )


def conversation_of(
    data: InputTokensRequest, tools: Sequence[ResponseTool], reasoning: ReasoningWish
) -> Conversation:
    """Everything that the prompt of a response depends on. Raises InvalidRequest."""
    return Conversation(
        turns=turns_of(data.instructions, input_items(data)),
        tools=find_tool_use(data, tools),
        reasoning=reasoning,
        variables=data.chat_template_kwargs or {},
        param="input",
    )


def reasoning_wish(data: InputTokensRequest) -> ReasoningWish:
    """The wish that changes the prompt: the effort."""
    effort = None if data.reasoning is None else data.reasoning.effort
    return ReasoningWish(effort=effort, effort_param="reasoning.effort")


def structured_output(data: InputTokensRequest) -> StructuredOutput | None:
    """The constraint that `text.format` asks for; None for plain text. Raises InvalidRequest."""
    match data.text.format if data.text is not None else None:
        case JSONObjectFormat(schema):
            fields = json_object(schema, "text.format.schema")
            check_length(len(fields.get("json", "")), "text.format")
            return StructuredOutput(source="text.format", **fields)
        case JSONSchemaTextFormat(schema=schema, strict=strict):
            text = closed_schema_text(schema, "text.format.schema")
            check_length(len(text), "text.format")
            return StructuredOutput(json=text, source="text.format", is_strict=bool(strict))
    return None


def num_logprobs(data: ResponseRequest) -> int | None:
    """How many of the likeliest tokens to report with each token; None for no report."""
    is_asked = data.top_logprobs or LOGPROBS in (data.include or ())
    return (data.top_logprobs or 0) if is_asked else None


def scheduling_wish(data: ResponseRequest) -> SchedulingWish:
    """The scheduling that a response asks for."""
    return SchedulingWish(
        priority=data.priority,
        tier=data.service_tier,
        tenant=data.safety_identifier or data.user,
        cache_salt=data.cache_salt,
        deadline=data.deadline,
    )


def _wish(data: ResponseRequest) -> ReasoningWish:
    wish = reasoning_wish(data)
    return ReasoningWish(
        effort=wish.effort,
        budget=data.thinking_token_budget,
        is_shown=data.include_reasoning is not False,
        effort_param=wish.effort_param,
    )
