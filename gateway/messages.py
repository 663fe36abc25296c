"""OpenAI's messages to what chat templates take. Pure."""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn

import msgspec

from gateway.protocol import (
    AssistantMessage,
    Content,
    DeveloperMessage,
    FunctionCall,
    FunctionMessage,
    Message,
    RefusalPart,
    TextPart,
    ToolCall,
    ToolMessage,
)
from gateway.template_probe import ToolSupport
from gateway.tool_prompt import in_plain_words
from runtime import InvalidRequest

_SHORT_ID = re.compile("[a-zA-Z0-9]{9}")

THOUGHTS = ("reasoning_content", "reasoning", "thinking")
"""What templates call the thoughts of an earlier answer; "thinking" is gpt-oss's."""


def template_messages(messages: Sequence[Message], support: ToolSupport) -> list[dict[str, Any]]:
    """Messages as chat templates want them: text contents, `system` for `developer`, `tool` for
    `function`, calls in the form that `support` says, and in plain words where the template drops
    them."""
    translated = [
        _template_message(message, f"messages[{index}]") for index, message in enumerate(messages)
    ]
    if not support.shows_messages:
        return in_plain_words(translated)
    _settle_calls(translated, support)
    return translated


def uses_tools(messages: Sequence[Message]) -> bool:
    """Whether there are calls or results among them."""
    return any(
        isinstance(message, ToolMessage | FunctionMessage)
        or (isinstance(message, AssistantMessage) and (message.tool_calls or message.function_call))
        for message in messages
    )


def _settle_calls(messages: list[dict[str, Any]], support: ToolSupport) -> None:
    """Gives arguments and ids the form that the template wants, and results the name of what was
    called, which some templates show."""
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
    """Nine letters and digits that stand for an id."""
    if _SHORT_ID.fullmatch(call_id):
        return call_id
    return hashlib.sha256(call_id.encode("utf-8", "replace")).hexdigest()[:9]


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
    calls = list(message.tool_calls or ())
    if message.function_call is not None:
        calls.append(ToolCall(message.function_call))
    thought = message.reasoning_content or message.reasoning
    if message.content is None and message.refusal is None and not calls and not thought:
        raise InvalidRequest(
            f"`{where}.content` is required unless the message has `tool_calls`.",
            param=f"{where}.content",
            code="missing_required_parameter",
        )
    content = message.refusal if message.content is None else message.content
    translated: dict[str, Any] = {"role": "assistant", "content": _text(content or "", where)}
    if thought:
        translated |= dict.fromkeys(THOUGHTS, thought)
    if calls:
        translated["tool_calls"] = [_template_tool_call(call) for call in calls]
    if message.name is not None:
        translated["name"] = message.name
    return translated


def _template_tool_call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.function.name, "arguments": _arguments(call.function)}
    return {"id": call.id, "type": "function", "function": function}


def _arguments(call: FunctionCall) -> Any:
    """Templates write arguments as JSON, so they get the object, an empty one for an empty text;
    broken JSON stays a string."""
    if not call.arguments.strip():
        return {}
    try:
        return msgspec.json.decode(call.arguments)
    except (msgspec.DecodeError, RecursionError):
        return call.arguments


def _text(content: Content, where: str) -> str:
    """Text of a message; several parts are separate lines."""
    if isinstance(content, str):
        return content
    texts = []
    for index, part in enumerate(content):
        match part:
            case TextPart(text) | RefusalPart(text):
                texts.append(text)
            case _:
                _refuse_content(f"{where}.content[{index}]", f"`{part.__struct_config__.tag}`")
    return "\n".join(texts)


def _refuse_content(param: str, kind: str) -> NoReturn:
    raise InvalidRequest(
        f"{kind} is not supported in `{param}`: this server takes text.",
        param=param,
        code="unsupported_value",
    )
