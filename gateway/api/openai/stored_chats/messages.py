"""The messages of a request in the form in which they are stored and listed."""

from collections.abc import Sequence

from msgspec import UNSET

from gateway.api.openai.protocol.answers import CalledFunction, ChatToolCall
from gateway.api.openai.protocol.messages import (
    AssistantMessage,
    FunctionCall,
    Message,
    ToolMessage,
)
from gateway.api.openai.stored_chats.protocol import StoredMessage
from gateway.generation.writer import encode


def encoded_messages(messages: Sequence[Message]) -> bytes:
    """The messages as a JSON list."""
    return encode([_stored(message) for message in messages])


def _stored(message: Message) -> StoredMessage:
    calls = (message.tool_calls or []) if isinstance(message, AssistantMessage) else []
    call = message.function_call if isinstance(message, AssistantMessage) else None
    answered = message.tool_call_id if isinstance(message, ToolMessage) else None
    content = message.content
    return StoredMessage(
        role=str(message.__struct_config__.tag),
        content=None if isinstance(content, list) else content,
        refusal=message.refusal if isinstance(message, AssistantMessage) else None,
        name=message.name,
        content_parts=content if isinstance(content, list) else None,
        tool_calls=[ChatToolCall(each.id or "", _function(each.function)) for each in calls]
        or UNSET,
        function_call=UNSET if call is None else _function(call),
        tool_call_id=UNSET if answered is None else answered,
        reasoning_content=_reasoning(message) or UNSET,
    )


def _function(call: FunctionCall) -> CalledFunction:
    return CalledFunction(call.name, call.arguments or "")


def _reasoning(message: Message) -> str | None:
    if not isinstance(message, AssistantMessage):
        return None
    return message.reasoning_content or message.reasoning or message.thinking
