"""Tools in plain words, for models whose chat template does not support tools. Pure."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

_INSTRUCTIONS = """\
You can call these functions, which are described by JSON schemas:
{functions}

To call functions, answer with nothing but a JSON list of calls:
[{{"name": <name of the function>, "arguments": <object with its arguments>}}]
The results come with the next message. Answer in plain text when no function is needed."""


def with_instructions(
    messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The messages, with a description of the tools at the end of the system message."""
    functions = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools)
    text = _INSTRUCTIONS.format(functions=functions)
    rest = [dict(message) for message in messages]
    if rest and rest[0]["role"] == "system":
        rest[0]["content"] = f"{rest[0]['content']}\n\n{text}"
        return rest
    return [{"role": "system", "content": text}, *rest]


def render_without_tools(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Converts tool calls to the answers that the model wrote, and results to user messages.
    Consecutive results become one message, because many templates want turns to alternate."""
    names: dict[str, str] = {}
    plain: list[dict[str, Any]] = []
    for message in messages:
        if calls := message.get("tool_calls"):
            names |= {call["id"]: call["function"]["name"] for call in calls}
            plain.append(_assistant(message, calls))
        elif message["role"] == "tool":
            _add_result(plain, message, names)
        else:
            plain.append(dict(message))
    for written in plain:
        written.pop("is_result", None)
    return plain


def _assistant(message: Mapping[str, Any], calls: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    written = json.dumps([call["function"] for call in calls], ensure_ascii=False)
    content = f"{message['content']}\n{written}" if message["content"] else written
    return {"role": "assistant", "content": content}


def _add_result(
    plain: list[dict[str, Any]], message: Mapping[str, Any], names: Mapping[str, str]
) -> None:
    name = message.get("name") or names.get(message.get("tool_call_id", ""), "the function")
    text = f"Result of {name}: {message['content']}"
    if plain and plain[-1].get("is_result"):
        plain[-1]["content"] += f"\n{text}"
    else:
        plain.append({"role": "user", "content": text, "is_result": True})
