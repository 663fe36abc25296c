"""Models that think and call tools: the thought first, then a call or a structured answer."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.kit.chat.answers import CHAT, HI, good, streamed_messages, whole_messages
from tests.kit.chat.tools import CALL, SCHEMAS, TOOLS, check_calls
from tests.kit.models.tiny_model import write_tiny_model
from tests.kit.serving import (
    RunningServer,
    running_server,
    scripted_settings,
    server_of,
    tiny_settings,
)

# The scripted engine begins anywhere in its text, inside a thought as far as this style goes. It
# says all of it twice: behind the first end tag there is a whole call in that.

SCRIPT = f"Shall I toss? {CALL} is how.</think>\n\nWell... {CALL}"
THINKER = {"tool_dialect": "hermes", "reasoning_parser": "deepseek_r1"}

scripted = server_of(scripted_settings(model=THINKER, text=SCRIPT, num_tokens=2 * len(SCRIPT)))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Random weights, whose thinking tags are control tokens."""
    path = write_tiny_model(
        tmp_path_factory.mktemp("thinking_tools") / "tiny.gguf",
        more_control_tokens=("<think>", "</think>"),
    )
    with running_server(tiny_settings(**THINKER), model_path=str(path)) as running:
        yield running


def thoughts(answer: dict[str, Any]) -> list[str]:
    return [choice["message"].get("reasoning_content", "") for choice in answer["choices"]]


def check_streamed(server: RunningServer, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages of an answer, of which the stream says the same."""
    told = whole_messages(good(server.post(CHAT, **body)))
    assert streamed_messages(server.chunks(CHAT, **body)) == told
    return told


def test_calls_behind_a_thought(scripted: RunningServer) -> None:
    """A call in a thought is a part of the thought, and no tag is in content or arguments."""
    body = {"messages": HI, "tools": TOOLS, "n": 2}
    for message in check_streamed(scripted, body):
        assert message["tool_calls"][0] == {"name": "toss", "arguments": '{"sure": true}'}
        assert message["finish_reason"] == "tool_calls"
        assert message["content"].startswith("Well...")
    answer = scripted.post(CHAT, **body).json()
    assert all(thought and thought in SCRIPT * 2 for thought in thoughts(answer))
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0


def test_a_thought_with_a_budget_before_calls(scripted: RunningServer) -> None:
    body = {"messages": HI, "tools": TOOLS, "thinking_token_budget": 4}
    check_streamed(scripted, body)
    answer = scripted.post(CHAT, **body).json()
    assert len(thoughts(answer)[0]) <= 4
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 4


def test_thoughts_can_be_left_out_beside_calls(scripted: RunningServer) -> None:
    body = {"messages": HI, "tools": TOOLS}
    told = check_streamed(scripted, {**body, "include_reasoning": False})
    assert told == [{**message, "reasoning": ""} for message in check_streamed(scripted, body)]
    answer = scripted.post(CHAT, **body, include_reasoning=False).json()
    assert "reasoning_content" not in answer["choices"][0]["message"]


@pytest.mark.parametrize("fields", [{}, {"parallel_tool_calls": False}, {"n": 3}])
def test_a_call_that_has_to_come_comes_behind_the_thought(
    tiny: RunningServer, fields: dict[str, Any]
) -> None:
    body = {
        "messages": HI,
        "tools": TOOLS[1:2],
        "tool_choice": "required",
        "thinking_token_budget": 12,
        "temperature": 1.3,
        "seed": 3,
        "max_tokens": 120,
        **fields,
    }
    for message in check_streamed(tiny, body):
        first = {"content": message["content"], "tool_calls": message["tool_calls"][:1]}
        check_calls(first, "toss")
    answer = tiny.post(CHAT, **body).json()
    assert all(thoughts(answer)), "it thought first"
    details = answer["usage"]["completion_tokens_details"]
    assert details["reasoning_tokens"] == 12 * len(answer["choices"])


def test_calls_that_may_come_do_not_disturb_the_thought(tiny: RunningServer) -> None:
    """The same tokens are thought with tools that are not enforced before the thought is over."""
    body = {
        "messages": HI,
        "tools": TOOLS,
        "thinking_token_budget": 9,
        "seed": 5,
        "temperature": 1.0,
        "max_tokens": 40,
    }
    check_streamed(tiny, body)
    strict = {**TOOLS[1], "function": {**TOOLS[1]["function"], "strict": True}}
    held = tiny.post(CHAT, **{**body, "tools": [strict]}).json()
    free = tiny.post(CHAT, **{**body, "tools": TOOLS[1:2]}).json()
    assert thoughts(held) == thoughts(free) != [""]


@pytest.mark.parametrize("tools", [[], TOOLS[1:2]])
def test_a_format_holds_behind_the_thought(tiny: RunningServer, tools: list[Any]) -> None:
    """With tools the answer is a call or fits the format."""
    schema = {"type": "array", "items": {"enum": [1, 2]}, "maxItems": 2}
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    body = {
        "messages": HI,
        "response_format": wanted,
        "thinking_token_budget": 12,
        "temperature": 2.0,
        "seed": 2,
        "n": 4,
        "max_tokens": 150,
        **({"tools": tools, "parallel_tool_calls": False} if tools else {}),
    }
    for message in check_streamed(tiny, body):
        if message["tool_calls"]:
            [call] = message["tool_calls"]
            Draft202012Validator(SCHEMAS[call["name"]]).validate(json.loads(call["arguments"]))
        else:
            Draft202012Validator(schema).validate(json.loads(message["content"]))
    assert all(thoughts(tiny.post(CHAT, **body).json()))
