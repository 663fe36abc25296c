"""Converts OpenAI's messages to the form that chat templates take. Pure."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NoReturn

import msgspec

from gateway.chat.conversation import (
    AssistantMessage,
    Content,
    DeveloperMessage,
    FunctionCall,
    FunctionMessage,
    Message,
    Part,
    RefusalPart,
    ResultPart,
    TextPart,
    ToolCall,
    ToolMessage,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
)
from gateway.chat.template.probe import ToolSupport
from gateway.chat.template.tool_prompt import render_without_tools
from runtime.errors import InvalidRequest

_SHORT_ID = re.compile("[a-zA-Z0-9]{9}")

NumberedPart = tuple[int, Part | ResultPart]

THOUGHTS = ("reasoning_content", "reasoning", "thinking")
"""The names that templates use for the reasoning of an earlier answer; gpt-oss uses "thinking"."""


def template_messages(messages: Sequence[Message], support: ToolSupport) -> list[dict[str, Any]]:
    """Messages in the form that chat templates take: text contents, `system` for `developer`,
    `tool` for `function`, and tool calls in the form that `support` describes. If the template
    drops tool calls, they become plain text. Calls and results in Anthropic's form become such
    calls and messages of their own."""
    translated: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        translated += _template_messages(message, f"messages[{index}]")
    if not support.shows_messages:
        return render_without_tools(translated)
    _settle_calls(translated, support)
    return translated


def uses_tools(messages: Sequence[Message]) -> bool:
    """Whether the messages contain tool calls or results."""
    return any(_uses_tools(message) for message in messages)


def _uses_tools(message: Message) -> bool:
    match message:
        case ToolMessage() | FunctionMessage():
            return True
        case AssistantMessage(tool_calls=calls, function_call=call) if calls or call:
            return True
        case AssistantMessage(content=list(parts)) | UserMessage(content=list(parts)):
            return any(isinstance(part, ToolUseBlock | ToolResultBlock) for part in parts)
    return False


def _settle_calls(messages: list[dict[str, Any]], support: ToolSupport) -> None:
    """Converts arguments and ids to the form that the template takes, and adds the called
    function's name to results, because some templates show it."""
    names: dict[str, str] = {}
    for message in messages:
        for call in message.get("tool_calls", ()):
            function = call["function"]
            names[call["id"]] = function["name"]
            if support.text_arguments and not isinstance(function["arguments"], str):
                function["arguments"] = json.dumps(function["arguments"], ensure_ascii=False)
            if support.short_ids:
                call["id"] = _short_id(call["id"])
        if "tool_call_id" in message:
            call_id = message["tool_call_id"]
            if "name" not in message and call_id in names:
                message["name"] = names[call_id]
            if support.short_ids:
                message["tool_call_id"] = _short_id(call_id)


def _short_id(call_id: str) -> str:
    """Nine letters and digits that replace an id."""
    if _SHORT_ID.fullmatch(call_id):
        return call_id
    return hashlib.sha256(call_id.encode("utf-8", "replace")).hexdigest()[:9]


def _template_messages(message: Message, where: str) -> Iterator[dict[str, Any]]:
    """Usually one message. Tool results between the texts of a user become messages of their
    own."""
    if not isinstance(message, UserMessage) or isinstance(message.content, str):
        yield _template_message(message, where)
        return
    named = {} if message.name is None else {"name": message.name}
    parts = enumerate(message.content)
    for is_result, group in groupby(parts, lambda item: isinstance(item[1], ToolResultBlock)):
        if not is_result:
            yield {"role": "user", "content": _joined(group, where), **named}
            continue
        for index, part in group:
            assert isinstance(part, ToolResultBlock), "grouped by it"
            yield _result(part, f"{where}.content[{index}]")


def _result(part: ToolResultBlock, where: str) -> dict[str, Any]:
    """A `ToolResultBlock` as a message of the role `tool`. Templates do not know `is_error`, so the
    text states the error."""
    content = part.content or ""
    text = content if isinstance(content, str) else _joined(enumerate(content), where)
    if part.is_error:
        text = f"Error: {text}"
    return {"role": "tool", "content": text, "tool_call_id": part.tool_use_id}


def _template_message(message: Message, where: str) -> dict[str, Any]:
    translated: dict[str, Any]
    match message:
        case AssistantMessage():
            return _assistant_message(message, where)
        case ToolMessage(content=content, tool_call_id=call_id):
            text = _text(content, where)
            translated = {"role": "tool", "content": text, "tool_call_id": call_id}
        case FunctionMessage(content=content):
            translated = {"role": "tool", "content": content or ""}
        case DeveloperMessage(content=content):
            translated = {"role": "system", "content": _text(content, where)}
        case _:
            role = message.__struct_config__.tag
            translated = {"role": role, "content": _text(message.content, where)}
    if message.name is not None:
        translated["name"] = message.name
    return translated


def _assistant_message(message: AssistantMessage, where: str) -> dict[str, Any]:
    if message.audio is not None:
        _refuse_content(f"{where}.audio", "Audio")
    calls = [_template_tool_call(call) for call in message.tool_calls or ()]
    if message.function_call is not None:
        calls.append(_template_tool_call(ToolCall(message.function_call)))
    thought = message.reasoning_content or message.reasoning
    content = message.refusal if message.content is None else message.content
    if content is None and not calls and not thought:
        raise InvalidRequest(
            f"`{where}.content` is required unless the message has `tool_calls`.",
            param=f"{where}.content",
            code="missing_required_parameter",
        )
    text, uses = _said_and_called(content or "", where)
    known = {call["id"] for call in calls}  # some clients send their calls in both forms
    calls += [_call(use.id, use.name, use.input) for use in uses if use.id not in known]
    translated: dict[str, Any] = {"role": "assistant", "content": text}
    if thought:
        translated |= dict.fromkeys(THOUGHTS, thought)
    if calls:
        translated["tool_calls"] = calls
    if message.name is not None:
        translated["name"] = message.name
    return translated


def _said_and_called(content: Content, where: str) -> tuple[str, list[ToolUseBlock]]:
    if isinstance(content, str):
        return content, []
    said = [item for item in enumerate(content) if not isinstance(item[1], ToolUseBlock)]
    return _joined(said, where), [part for part in content if isinstance(part, ToolUseBlock)]


def _template_tool_call(call: ToolCall) -> dict[str, Any]:
    return _call(call.id, call.function.name, _arguments(call.function))


def _call(call_id: str, name: str, arguments: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}


def _arguments(call: FunctionCall) -> Any:
    """The arguments as an object, because templates write them as JSON. An empty text becomes an
    empty object; broken JSON stays a string."""
    if not call.arguments.strip():
        return {}
    try:
        return msgspec.json.decode(call.arguments)
    except (msgspec.DecodeError, RecursionError):
        return call.arguments


def _text(content: Content, where: str) -> str:
    """Text of a message; several parts are separate lines."""
    return content if isinstance(content, str) else _joined(enumerate(content), where)


def _joined(parts: Iterable[NumberedPart], where: str) -> str:
    """Text of parts that come with their places in `where`'s content."""
    texts = []
    for index, part in parts:
        match part:
            case TextPart(text) | RefusalPart(text):
                texts.append(text)
            case _:
                _refuse_part(f"{where}.content[{index}]", part)
    return "\n".join(texts)


def _refuse_part(param: str, part: Part | ResultPart) -> NoReturn:
    kind = f"`{part.__struct_config__.tag}`"
    if isinstance(part, ToolUseBlock | ToolResultBlock):
        role = "assistant" if isinstance(part, ToolUseBlock) else "user"
        message = f"{kind} in `{param}` belongs into a message of the role `{role}`."
        raise InvalidRequest(message, param=param, code="invalid_value")
    _refuse_content(param, kind)


def _refuse_content(param: str, kind: str) -> NoReturn:
    raise InvalidRequest(
        f"{kind} is not supported in `{param}`: this server takes text.",
        param=param,
        code="unsupported_value",
    )
