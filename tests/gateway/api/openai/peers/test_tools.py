"""Calls, as users of other servers expect them."""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.kit.chat.answers import CHAT, HI
from tests.kit.engines import needs_llama_library
from tests.kit.openai.peers import ARGUMENTS, TOOLS, body_of, good, refused, streamed_or_not
from tests.kit.serving import (
    RunningServer,
    text_of_chunks,
)

needs_llama_library()


@pytest.mark.parametrize(
    "fields",
    [
        {"tool_choice": "required"},
        {"tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "g"}}},
        {"tools": TOOLS, "tool_choice": {}},
        {"tools": TOOLS, "tool_choice": "bogus"},
        {"tools": TOOLS, "tool_choice": 3},
    ],
)
@streamed_or_not
def test_choices_that_make_no_sense(
    tiny_server: RunningServer, fields: dict[str, Any], stream: bool
):
    assert refused(tiny_server, stream=stream, **fields)["param"].startswith("tool_choice")


def test_no_choice_is_the_default_choice(caller: RunningServer):
    absent, null, auto = (
        good(caller, tools=TOOLS, **fields)["choices"][0]
        for fields in ({}, {"tool_choice": None}, {"tool_choice": "auto"})
    )
    for choice in (absent, null, auto):
        assert choice["finish_reason"] == "tool_calls"
        assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["f", "f"]


def test_calls_side_by_side_in_any_script(caller: RunningServer):
    """Two calls with ids of their own; arguments in any letters arrive as they were meant."""
    calls = good(caller, tools=TOOLS)["choices"][0]["message"]["tool_calls"]
    chunks = caller.chunks(CHAT, **body_of(CHAT, tools=TOOLS))
    deltas = [part for c in chunks for part in c["choices"][0]["delta"].get("tool_calls", ())]

    assert len({call["id"] for call in calls}) == 2
    assert [json.loads(call["function"]["arguments"]) for call in calls] == [ARGUMENTS] * 2
    begun = [delta for delta in deltas if "id" in delta]
    assert [delta["index"] for delta in begun] == [0, 1]
    assert len({delta["id"] for delta in begun}) == 2
    assert all(delta["type"] == "function" and delta["function"]["name"] == "f" for delta in begun)
    later = [delta for delta in deltas if "id" not in delta]
    assert all(delta.keys() == {"index", "function"} for delta in later)
    for index in (0, 1):
        parts = [d["function"]["arguments"] for d in later if d["index"] == index]
        assert len(parts) > 1
        assert "".join(parts) == calls[index]["function"]["arguments"]
    reasons = [c["choices"][0]["finish_reason"] for c in chunks]
    assert [reason for reason in reasons if reason] == ["tool_calls"]


@pytest.mark.parametrize("arguments", ["", "{}", "{broken"])
@pytest.mark.parametrize(
    "result",
    [
        {"content": "42"},
        {"content": [{"type": "text", "text": "4"}, {"type": "text", "text": "2"}]},
        {"content": "no such city", "status": "error"},
    ],
)
@pytest.mark.parametrize("tools", [TOOLS, None])
def test_histories_with_calls(
    caller: RunningServer, arguments: str, result: dict[str, Any], tools: Any
):
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    history = [
        *HI,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", **result},
    ]
    answer = good(caller, messages=history, tools=tools, max_tokens=3)

    assert answer["usage"]["completion_tokens"] == 3


def test_calls_and_results_in_the_form_of_another_api(caller: RunningServer):
    """The model reads the same prompt, whichever form a history has."""
    said, asked = {"type": "text", "text": "Let me see."}, {"type": "text", "text": "And now?"}
    blocks = [
        {
            "role": "assistant",
            "content": [said, tool_use("c", {"x": [1, "狐"]}), tool_use("d", {})],
        },
        {"role": "user", "content": [tool_result("d", "4"), tool_result("c", [said]), asked]},
    ]
    calls = [
        {"id": name, "type": "function", "function": {"name": "f", "arguments": arguments}}
        for name, arguments in (("c", '{"x": [1, "狐"]}'), ("d", "{}"))
    ]
    messages = [
        {"role": "assistant", "content": "Let me see.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "d", "content": "4"},
        {"role": "tool", "tool_call_id": "c", "content": "Let me see."},
        {"role": "user", "content": "And now?"},
    ]

    def prompt(messages: list[Any]) -> Any:
        response = caller.post("/tokenize", messages=[*HI, *messages])
        assert response.status_code == 200, response.text
        return response.json()["tokens"]

    assert prompt(blocks) == prompt(messages)
    assert good(caller, messages=[*HI, *blocks], tools=TOOLS, max_tokens=3)


def tool_use(call_id: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": "f", "input": arguments}


def tool_result(call_id: str, content: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": content, "is_error": False}


@pytest.mark.parametrize(
    ("block", "param"),
    [
        ({"type": "tool_use", "id": "c", "name": "f"}, "input"),
        ({"type": "tool_use", "id": "c", "name": "f", "input": "{}"}, "input"),
        (
            {"type": "tool_result", "tool_use_id": "c", "content": [{"type": "video"}]},
            "content[0].type",
        ),
        ({"type": "video"}, "type"),
    ],
)
@streamed_or_not
def test_blocks_that_are_none(
    server: RunningServer, block: dict[str, Any], param: str, stream: bool
):
    role = "assistant" if block["type"] == "tool_use" else "user"
    error = refused(server, messages=[*HI, {"role": role, "content": [block]}], stream=stream)

    assert error["param"] == f"messages[1].content[0].{param}"


def test_an_agents_loop(tiny_server: RunningServer):
    """A call that has to come, its result, and then a text."""
    messages: list[dict[str, Any]] = list(HI)
    schema = {"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"]}
    schema["additionalProperties"] = False
    tools = [{"type": "function", "function": {"name": "toss", "parameters": schema}}]
    wanted = {"tools": tools, "tool_choice": "required", "parallel_tool_calls": False}
    for _ in range(2):
        choice = good(tiny_server, messages=messages, max_tokens=200, seed=1, **wanted)["choices"][
            0
        ]
        assert choice["finish_reason"] == "tool_calls"
        [call] = choice["message"]["tool_calls"]
        Draft202012Validator(schema).validate(json.loads(call["function"]["arguments"]))
        result = {"role": "tool", "tool_call_id": call["id"], "content": "heads"}
        messages += [choice["message"], result]
    last = good(tiny_server, messages=messages, tools=tools, tool_choice="none", max_tokens=5)
    chunks = tiny_server.chunks(
        CHAT, messages=messages, tools=tools, tool_choice="none", max_tokens=5, temperature=0
    )

    assert "tool_calls" not in last["choices"][0]["message"]
    assert last["choices"][0]["message"]["content"]
    assert text_of_chunks(chunks)
