"""Three functions that models may call, and calls of them."""

import json
from collections.abc import Sequence
from typing import Any

from jsonschema import Draft202012Validator

from gateway.chat.tools.dialect import CallForm, Dialect

WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"$ref": "#/$defs/city"},
        "unit": {"enum": ["celsius", "fahrenheit"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["city", "unit"],
    "additionalProperties": False,
    "$defs": {"city": {"type": "string", "maxLength": 12}},
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "get_weather": WEATHER,
    "toss": {
        "type": "object",
        "properties": {"sure": {"type": "boolean"}},
        "required": ["sure"],
        "additionalProperties": False,
    },
    "stop_all": {"type": "object", "properties": {}, "additionalProperties": False},
}
TOOLS = [
    {"type": "function", "function": {"name": name, "description": "d", "parameters": schema}}
    for name, schema in SCHEMAS.items()
]
CALL = '<tool_call>\n{"name": "toss", "arguments": {"sure": true}}\n</tool_call>'
"""As the dialect `hermes` has it."""


def choice_of(*names: str, mode: str = "required") -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def check_calls(message: dict[str, Any], *names: str) -> None:
    """Each call is one of a tool that may be called, with arguments that fit."""
    assert message["content"] == ""
    assert message["tool_calls"]
    for call in message["tool_calls"]:
        assert call["name"] in names
        Draft202012Validator(SCHEMAS[call["name"]]).validate(json.loads(call["arguments"]))


def written(dialect: Dialect, calls: Sequence[tuple[str, str]]) -> str:
    """Calls with these names and arguments as a grammar would have the model write them."""
    form = dialect.form
    assert form is not None
    each = [form.begin(name) + _written(form, text) + form.end for name, text in calls]
    return form.opening + form.separator.join(each) + form.close


def _written(form: CallForm, arguments: str) -> str:
    """The arguments of a call, which are JSON, or text between tags."""
    tags = form.arguments
    if tags is None:
        return arguments
    written = ""
    for key, value in json.loads(arguments).items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        between = f"{tags.margin}{text}{tags.margin}"
        written += tags.before_key + key + tags.before_value + between + tags.value_end + tags.after
    return written
