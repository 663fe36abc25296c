"""A request for a response to the chat that answers it. Pure."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.api.openai.protocol.requests import ChatCompletionRequest, StreamOptions
from gateway.api.openai.protocol.response_format import JSONSchema, JSONSchemaFormat, ResponseFormat
from gateway.api.openai.protocol.tools import (
    AllowedTools,
    FunctionDefinition,
    FunctionReference,
    FunctionTool,
    NamedTool,
    ToolChoice,
    ToolSubset,
)
from gateway.api.openai.responses.conversation import messages_of
from gateway.api.openai.responses.protocol import (
    AllowedFunctions,
    ChosenFunction,
    InputTokensRequest,
    JSONSchemaTextFormat,
    ResponseRequest,
    ResponseTextFormat,
    ResponseTool,
    ResponseToolChoice,
    input_items,
    tools,
)
from runtime.errors import InvalidRequest

LOGPROBS = "message.output_text.logprobs"

SAME = (
    *("temperature", "top_p", "stream", "user", "safety_identifier", "service_tier"),
    *("seed", "stop", "presence_penalty", "frequency_penalty", "logit_bias", "top_k", "min_p"),
    *("repetition_penalty", "min_tokens", "stop_token_ids", "ignore_eos", "priority", "deadline"),
    *("cache_salt", "thinking_token_budget", "include_reasoning"),
)
"""Fields that mean the same in chats."""

_NAMES = (
    (re.compile(r"^messages\b.*"), "input"),
    (re.compile(r"^max_completion_tokens$"), "max_output_tokens"),
    (re.compile(r"^reasoning_effort$"), "reasoning.effort"),
    (re.compile(r"^response_format\.json_schema\b"), "text.format"),
    (re.compile(r"^response_format\b"), "text.format"),
    (re.compile(r"^(tools\[\d+\])\.function\b"), r"\1"),
    (re.compile(r"^tool_choice\.allowed_tools\b"), "tool_choice"),
    (re.compile(r"^logprobs$"), "include"),
)
"""What chats call a field to what it is called here."""


def prompt_of(data: InputTokensRequest, model: str) -> ChatCompletionRequest:
    """The chat with this prompt, and nothing about its answer. Raises InvalidRequest."""
    return ChatCompletionRequest(
        model=model,
        messages=messages_of(data.instructions, input_items(data)),
        tools=[_tool(tool) for tool in tools(data)] or None,
        tool_choice=_tool_choice(data.tool_choice),
        parallel_tool_calls=data.parallel_tool_calls,
        response_format=None if data.text is None else _format(data.text.format),
        reasoning_effort=None if data.reasoning is None else data.reasoning.effort,
        chat_template_kwargs=data.chat_template_kwargs,
    )


def chat_of(data: ResponseRequest) -> ChatCompletionRequest:
    """Raises InvalidRequest."""
    chat = prompt_of(data, data.model)
    for name in SAME:
        setattr(chat, name, getattr(data, name))
    chat.max_completion_tokens = data.max_output_tokens
    if data.stream_options is not None:
        chat.stream_options = StreamOptions()  # refused without a stream
    if data.top_logprobs or LOGPROBS in (data.include or ()):
        chat.logprobs = True
        chat.top_logprobs = data.top_logprobs
    return chat


@contextmanager
def own_names() -> Iterator[None]:
    """Errors in the block name the fields of a response, where they name those of a chat."""
    try:
        yield
    except InvalidRequest as error:
        _rename(error)
        raise


def _rename(error: InvalidRequest) -> None:
    if error.param is None:
        return
    name = error.param
    for pattern, replacement in _NAMES:
        name = pattern.sub(replacement, name)
    error.args = (str(error).replace(f"`{error.param}`", f"`{name}`"),)
    error.param = name


def _tool(tool: ResponseTool) -> FunctionTool:
    return FunctionTool(
        FunctionDefinition(
            name=tool.name,
            description=tool.description,
            parameters=tool.parameters,
            strict=tool.strict,
        )
    )


def _tool_choice(choice: ResponseToolChoice | None) -> ToolChoice | None:
    match choice:
        case ChosenFunction(name):
            return NamedTool(FunctionReference(name))
        case AllowedFunctions(mode, chosen):
            allowed = [NamedTool(FunctionReference(each.name)) for each in chosen]
            return AllowedTools(ToolSubset(mode, list(allowed)))
    return choice


def _format(wanted: ResponseTextFormat | None) -> ResponseFormat | None:
    if not isinstance(wanted, JSONSchemaTextFormat):
        return wanted
    return JSONSchemaFormat(
        JSONSchema(
            name=wanted.name,
            schema=wanted.schema,
            strict=wanted.strict,
            description=wanted.description,
        )
    )
