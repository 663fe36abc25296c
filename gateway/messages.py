"""OpenAI's messages to what chat templates take. Pure."""

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
from runtime import InvalidRequest

THOUGHTS = ("reasoning_content", "reasoning", "thinking")
"""What templates call the thoughts of an earlier answer; "thinking" is gpt-oss's."""


def template_messages(messages: Sequence[Message], *, tool_messages: bool) -> list[dict[str, Any]]:
    """Messages as chat templates want them: text contents, `system` for `developer`, `tool` for
    `function`. `tool_messages` says whether the model's template shows results of tools."""
    translated = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if isinstance(message, ToolMessage | FunctionMessage) and not tool_messages:
            raise InvalidRequest(
                "This model's chat template has no place for messages of this role.",
                param=f"{where}.role",
                code="unsupported_value",
            )
        translated.append(_template_message(message, where))
    return translated


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
    """Templates write arguments as JSON, so they get the object; broken JSON stays a string."""
    try:
        return msgspec.json.decode(call.arguments)
    except msgspec.DecodeError:
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
