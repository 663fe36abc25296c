"""Other servers' names for structured output, which the engine enforces."""

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.kit.chat.answers import CHAT, HI, TEXT, good
from tests.kit.serving import RunningServer

SCHEMA = {
    "type": "object",
    "properties": {"size": {"enum": [1, 2]}},
    "required": ["size"],
    "additionalProperties": False,
}
TURNS = 'root ::= ("left" | "right") " " [0-9]'
ENFORCED: list[tuple[dict[str, Any], Any]] = [
    ({"regex": "(yes|no)!"}, "(yes|no)!"),
    ({"ebnf": TURNS}, "(left|right) [0-9]"),
    ({"grammar": TURNS}, "(left|right) [0-9]"),
    ({"grammar_string": TURNS}, "(left|right) [0-9]"),
    ({"grammar": {"type": "regex", "value": "[ab]{3}"}}, "[ab]{3}"),
    ({"grammar": {"type": "json", "value": SCHEMA}}, SCHEMA),
    ({"json_schema": SCHEMA}, SCHEMA),
    ({"json_schema": json.dumps(SCHEMA)}, SCHEMA),
    ({"format": SCHEMA}, SCHEMA),
]


@pytest.mark.parametrize("path", [CHAT, TEXT])
@pytest.mark.parametrize(("fields", "wanted"), ENFORCED)
def test_an_answer_has_the_form_that_another_servers_name_asks_for(
    tiny_server: RunningServer, path: str, fields: dict[str, Any], wanted: Any
):
    """The model's weights are random, so that nothing but the grammar makes the answer fit."""
    prompt = {"messages": HI} if path == CHAT else {"prompt": "hi"}
    answer = good(tiny_server.post(path, **prompt, **fields, max_tokens=100, temperature=1))
    [choice] = answer["choices"]
    text = choice["message"]["content"] if path == CHAT else choice["text"]

    assert choice["finish_reason"] == "stop"
    if isinstance(wanted, str):
        assert re.fullmatch(wanted, text)
    else:
        Draft202012Validator(wanted).validate(json.loads(text))
