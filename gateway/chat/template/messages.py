"""Converts the turns of a conversation to the messages that chat templates take. Pure."""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

from gateway.chat.conversation import Turn, TurnCall
from gateway.chat.template.probe import ToolSupport
from gateway.chat.template.tool_prompt import render_without_tools

_SHORT_ID = re.compile("[a-zA-Z0-9]{9}")

THOUGHTS = ("reasoning_content", "reasoning", "thinking")
"""The names that templates use for the reasoning of an earlier answer; gpt-oss uses "thinking"."""


def template_messages(turns: Sequence[Turn], support: ToolSupport) -> list[dict[str, Any]]:
    """Messages with tool calls in the form that `support` describes. If the template drops tool
    calls, they become plain text."""
    messages = [_message(turn) for turn in turns]
    if not support.shows_messages:
        return render_without_tools(messages)
    _settle_calls(messages, support)
    return messages


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
