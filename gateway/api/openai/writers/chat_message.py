"""Reasoning and tool calls in OpenAI's two forms: whole messages, and the deltas of a stream."""

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, UnsetType

from gateway.api.openai.protocol.answers import CalledFunction, ChatMessage, ChatToolCall
from gateway.chat.finish import ToolCall
from gateway.chat.parsing.pieces import CallArguments, CallStart, Reasoning
from gateway.generation.events import Choice


def chat_message(choice: Choice, *, legacy_calls: bool, must_call: bool) -> ChatMessage:
    """The message of a finished choice. With `must_call` it can only have calls, and has no content
    even if it ended before the first one."""
    reasoning: str | UnsetType = choice.reasoning or UNSET
    only_calls = (must_call or bool(choice.calls)) and not choice.text
    functions = [CalledFunction(call.name, call.arguments) for call in choice.calls]
    return ChatMessage(
        "assistant",
        None if only_calls else choice.text,
        reasoning_content=reasoning,
        reasoning=reasoning,
        tool_calls=UNSET if legacy_calls or not functions else _calls(choice.calls),
        function_call=functions[0] if legacy_calls and functions else UNSET,
    )


def delta_fields(
    piece: Reasoning | CallStart | CallArguments, *, legacy_calls: bool
) -> dict[str, Any]:
    """The `delta` of a piece. Only the first delta of a call has its id and name."""
    match piece:
        case Reasoning(text):
            return {"reasoning_content": text, "reasoning": text}
        case CallStart(number, call_id, name):
            function = {"name": name, "arguments": ""}
            if legacy_calls:
                return {"function_call": function}
            call = {"index": number, "id": call_id, "type": "function", "function": function}
            return {"tool_calls": [call]}
        case CallArguments(number, text):
            if legacy_calls:
                return {"function_call": {"arguments": text}}
            return {"tool_calls": [{"index": number, "function": {"arguments": text}}]}


def _calls(calls: Sequence[ToolCall]) -> list[ChatToolCall]:
    return [ChatToolCall(call.id, CalledFunction(call.name, call.arguments)) for call in calls]
