"""A request for a response to its job. Pure."""

from collections.abc import Mapping, Sequence

from msgspec import Raw

from gateway.api.openai.protocol.response_format import JSONObjectFormat
from gateway.api.openai.responses.protocol import (
    JSONSchemaTextFormat,
    ResponseRequest,
    ResponseTools,
    input_items,
    items_of,
)
from gateway.api.openai.responses.tools import find_tool_use
from gateway.api.openai.responses.turns import EARLIER, turns_of
from gateway.api.openai.translate.checks import check_stream_options
from gateway.api.openai.translate.reasoning import reasoning_wish
from gateway.api.openai.translate.sampling import shared_params, token_limit
from gateway.api.openai.translate.structured_output import json_object
from gateway.api.openai.translate.tools import skipped_tools
from gateway.api.openai.translate.unsupported import ignored_verbosity
from gateway.chat.conversation import Conversation
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
    tools: ResponseTools,
    job_id: str,
    caller: Caller,
    lora: str = "",
    earlier: Sequence[Raw] = (),
) -> Job:
    """The job of a response with these tools. `earlier` are the items of what was said before its
    own input. `lora` is the adapter that the model's name stands
    for; "" is no adapter. Raises InvalidRequest, and PermissionDenied for what the caller's key
    does not allow."""
    check_stream_options(data)
    verbosity = None if data.text is None else data.text.verbosity
    return Job(
        id=job_id,
        prompt=conversation_of(data, tools, earlier),
        sampling=shared_params(data, structured_output(data), logprobs=num_logprobs(data)),
        limit=TokenLimit(num_tokens=token_limit(data.max_output_tokens, "max_output_tokens")),
        scheduling=scheduling_of(scheduling_wish(data), caller, lora),
        seed=data.seed,
        truncation=data.truncation,
        is_streamed=bool(data.stream),
        param_names=PARAM_NAMES,
        ignored={
            **skipped_tools(tools.skipped.items()),
            **ignored_verbosity(verbosity, "text.verbosity"),
        },
    )


def conversation_of(
    data: ResponseRequest, tools: ResponseTools, earlier: Sequence[Raw] = ()
) -> Conversation:
    """Everything that the prompt of a response depends on. Raises InvalidRequest."""
    effort = None if data.reasoning is None else data.reasoning.effort
    name = EARLIER if data.conversation is None else "conversation"
    before = items_of(earlier, name)
    return Conversation(
        turns=turns_of(data.instructions, before, input_items(data), name),
        tools=find_tool_use(data, tools),
        reasoning=reasoning_wish(data, effort, "reasoning.effort"),
        variables=data.chat_template_kwargs or {},
        param="input",
    )


def structured_output(data: ResponseRequest) -> StructuredOutput | None:
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
