"""OpenAI's messages to the turns of a conversation. Pure.

Calls and results in Anthropic's form become calls of a turn and turns of their own.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NoReturn

from gateway.api.openai.protocol.messages import (
    AssistantMessage,
    Content,
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
from gateway.chat.call_ids import with_call_ids
from gateway.chat.conversation import Role, Turn, TurnCall, parse_arguments
from runtime.errors import InvalidRequest

NumberedPart = tuple[int, Part | ResultPart]


def turns_of(messages: Sequence[Message]) -> tuple[Turn, ...]:
    """The turns that these messages are. Raises InvalidRequest, with its place, for content that is
    not text."""
    turns: list[Turn] = []
    for index, message in enumerate(messages):
        turns += _turns(message, f"messages[{index}]")
    return with_call_ids(turns)


def named_roles(messages: Sequence[Message]) -> Mapping[Role, str]:
    """For each role whose messages name a participant the place of the first such name."""
    places: dict[Role, str] = {}
    for index, message in enumerate(messages):
        if message.name is not None and not isinstance(message, ToolMessage | FunctionMessage):
            places.setdefault(_role_of(message), f"messages[{index}].name")
    return places


def _role_of(message: Message) -> Role:
    match message:
        case UserMessage():
            return "user"
        case AssistantMessage():
            return "assistant"
        case _:
            return "system"


def _turns(message: Message, where: str) -> Iterator[Turn]:
    match message:
        case UserMessage(content=[_, *_] as parts, name=name):
            yield from _user_turns(parts, name, where)
        case AssistantMessage():
            yield _assistant_turn(message, where)
        case ToolMessage(content=content, tool_call_id=call_id, name=name):
            yield Turn("tool", _text(content or "", where), name, call_id=call_id)
        case FunctionMessage(content=content, name=name):
            yield Turn("tool", content or "", name)
        case UserMessage(content=content, name=name):
            yield Turn("user", _text(content, where), name)
        case _:
            yield Turn("system", _text(message.content, where), message.name)


def _user_turns(parts: Sequence[Part], name: str | None, where: str) -> Iterator[Turn]:
    """Usually one turn. Tool results between the texts of a user become turns of their own."""
    numbered = enumerate(parts)
    for is_result, group in groupby(numbered, lambda item: isinstance(item[1], ToolResultBlock)):
        if not is_result:
            yield Turn("user", _joined(group, where), name)
            continue
        for index, part in group:
            assert isinstance(part, ToolResultBlock), "grouped by it"
            yield _result(part, f"{where}.content[{index}]")


def _result(part: ToolResultBlock, where: str) -> Turn:
    """Chat templates do not know `is_error`, so the text states the error."""
    content = part.content or ""
    text = content if isinstance(content, str) else _joined(enumerate(content), where)
    if part.is_error:
        text = f"Error: {text}"
    return Turn("tool", text, call_id=part.tool_use_id)


def _assistant_turn(message: AssistantMessage, where: str) -> Turn:
    if message.audio is not None:
        _refuse_content(f"{where}.audio", "Audio")
    calls = [
        _call(call, f"{where}.tool_calls[{index}].function")
        for index, call in enumerate(message.tool_calls or ())
    ]
    if message.function_call is not None:
        calls.append(_call(ToolCall(message.function_call), f"{where}.function_call"))
    reasoning = message.reasoning_content or message.reasoning or message.thinking or ""
    content = message.refusal if message.content is None else message.content
    if content is None and not calls and not reasoning:
        raise InvalidRequest(
            f"`{where}.content` is required unless the message has `tool_calls`.",
            param=f"{where}.content",
            code="missing_required_parameter",
        )
    text, uses = _text_and_uses(content or "", where)
    known = {call.id for call in calls}  # some clients send their calls in both forms
    calls += [
        TurnCall(use.id or "", use.name, use.input or {})
        for use in uses
        if not use.id or use.id not in known
    ]
    return Turn("assistant", text, message.name, reasoning, tuple(calls))


def _text_and_uses(content: Content, where: str) -> tuple[str, list[ToolUseBlock]]:
    if isinstance(content, str):
        return content, []
    texts = [item for item in enumerate(content) if not isinstance(item[1], ToolUseBlock)]
    return _joined(texts, where), [part for part in content if isinstance(part, ToolUseBlock)]


def _call(call: ToolCall, where: str) -> TurnCall:
    arguments = parse_arguments(call.function.arguments or "", f"{where}.arguments")
    return TurnCall(call.id or "", call.function.name, arguments)


def _text(content: Content, where: str) -> str:
    """The text of a message. Several parts are separate lines."""
    return content if isinstance(content, str) else _joined(enumerate(content), where)


def _joined(parts: Iterable[NumberedPart], where: str) -> str:
    """The text of parts, which come with their places in the content of `where`."""
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
