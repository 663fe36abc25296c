"""Finds out what a chat template does with tools, by rendering with it."""

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

from msgspec import Struct

Render = Callable[[list[Mapping[str, Any]], Mapping[str, Any]], str]
"""Renders messages and variables to a prompt; raises whatever the template raises."""

_FUNCTION, _KEY, _RESULT = "lookup7f3a", "key7f3a", "toolresult7f3a"
_WRITTEN_KEYS = (f'"{_KEY}"', f"{_KEY}:", f"={_KEY}>", f">{_KEY}<")
"""A key of an argument as prompts show it: in JSON, without quotes, or between tags."""

_LONG_ID, _SHORT_ID = "call_0123456789abcdef01234567", "a1b2c3d4e"


class ToolSupport(Struct, frozen=True):
    """`shows_tools`: the prompt shows the available tools. `shows_messages`: the prompt shows
    earlier calls and their results; many templates drop them silently. `text_arguments`: the
    arguments of a call must be a JSON string, not an object. `short_ids`: ids of calls must be nine
    letters and digits."""

    shows_tools: bool = False
    shows_messages: bool = False
    text_arguments: bool = False
    short_ids: bool = False


def probe_tools(render: Render) -> ToolSupport:
    """Tries one conversation with a call in all forms that templates expect."""
    shows_tools = _FUNCTION in _rendered(render, [{"role": "user", "content": "q"}])
    for short_ids, text_arguments in product((False, True), repeat=2):
        prompt = _rendered(render, _conversation(short_ids, text_arguments))
        if _RESULT in prompt and any(written in prompt for written in _WRITTEN_KEYS):
            return ToolSupport(shows_tools, True, text_arguments, short_ids)
    prompt = _rendered(render, _conversation(False, False))
    return ToolSupport(shows_tools, _RESULT in prompt and _KEY in prompt)


def _rendered(render: Render, messages: list[Mapping[str, Any]]) -> str:
    """The prompt, or "" if the template refuses."""
    function = {
        "name": _FUNCTION,
        "description": "",
        "parameters": {"type": "object", "properties": {}},
    }
    variables = {
        "tools": [{"type": "function", "function": function}],
        "add_generation_prompt": True,
    }
    try:
        return render(messages, variables)
    except Exception:  # a template may raise anything, and that is the answer
        return ""


def _conversation(short_ids: bool, text_arguments: bool) -> list[Mapping[str, Any]]:
    call_id = _SHORT_ID if short_ids else _LONG_ID
    arguments: Any = f'{{"{_KEY}": "v"}}' if text_arguments else {_KEY: "v"}
    function = {"name": "f", "arguments": arguments}
    call = {"id": call_id, "type": "function", "function": function}
    return [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": _RESULT, "tool_call_id": call_id, "name": "f"},
    ]
