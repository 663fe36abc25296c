"""Converts the turns of a conversation to the messages that chat templates take. Pure."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.chat.conversation import Turn, TurnCall
from gateway.chat.template.tool_prompt import render_without_tools
from gateway.chat.template.tool_support import ToolSupport, reshape, shapes_of

_SHORT_ID = re.compile("[a-zA-Z0-9]{9}")

_UNREADABLE = "arguments"
"""The key of arguments that are no object, for templates that walk over an object."""

THOUGHTS = ("reasoning_content", "reasoning", "thinking")
"""The names that templates use for the reasoning of an earlier answer; gpt-oss uses "thinking"."""


def template_messages(turns: Sequence[Turn], support: ToolSupport) -> list[dict[str, Any]]:
    """Messages with tool calls in the form that `support` describes. If the template drops tool
    calls, they become plain text."""
    return with_calls([_message(turn) for turn in turns], support)


def with_calls(messages: Sequence[Mapping[str, Any]], support: ToolSupport) -> list[dict[str, Any]]:
    """Copies of the messages, with tool calls in the form that `support` describes."""
    if not support.shows_messages or shapes_of(messages) & support.unshown:
        return render_without_tools(messages)
    copies = [dict(message) for message in messages]
    if not any("tool_calls" in message or message["role"] == "tool" for message in copies):
        return copies
    return _settled(reshape(copies, support), support)


def _message(turn: Turn) -> dict[str, Any]:
    message: dict[str, Any] = {"role": turn.role, "content": turn.text}
    if turn.call_id is not None:
        message["tool_call_id"] = turn.call_id
    if turn.reasoning:
        message |= dict.fromkeys(THOUGHTS, turn.reasoning)
    if turn.calls:
        message["tool_calls"] = [_call(call) for call in turn.calls]
    if turn.name is not None:
        message["name"] = turn.name
    return message


def _call(call: TurnCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _settled(messages: list[dict[str, Any]], support: ToolSupport) -> list[dict[str, Any]]:
    """Converts arguments, contents and ids to the form that the template takes, and adds the called
    function's name to results, because some templates show it."""
    names: dict[str, str] = {}
    for message in messages:
        if calls := message.get("tool_calls"):
            names |= {call["id"]: call["function"]["name"] for call in calls}
            message["tool_calls"] = [_settled_call(call, support) for call in calls]
            if support.null_content and not message["content"]:
                message["content"] = None
        if "tool_call_id" in message:
            call_id = message["tool_call_id"]
            if "name" not in message and call_id in names:
                message["name"] = names[call_id]
            if support.short_ids:
                message["tool_call_id"] = _short_id(call_id)
        if message["role"] == "tool" and support.result_parts:
            message["content"] = [{"type": "text", "text": message["content"]}]
    return messages


def _settled_call(call: Mapping[str, Any], support: ToolSupport) -> dict[str, Any]:
    function = dict(call["function"])
    arguments = function["arguments"]
    if support.text_arguments and not isinstance(arguments, str):
        function["arguments"] = json.dumps(arguments, ensure_ascii=False)
    elif support.object_arguments and not isinstance(arguments, dict):
        function["arguments"] = {_UNREADABLE: arguments}
    call_id = _short_id(call["id"]) if support.short_ids else call["id"]
    return {**call, "id": call_id, "function": function}


def _short_id(call_id: str) -> str:
    """Nine letters and digits that replace an id."""
    if _SHORT_ID.fullmatch(call_id):
        return call_id
    return hashlib.sha256(call_id.encode("utf-8", "replace")).hexdigest()[:9]
