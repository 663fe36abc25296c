"""Responses over HTTP: items, thoughts, calls."""

import json
from typing import Any

import pytest

from gateway.api.openai.responses.protocol import (
    decode_response_request,
    input_items,
)
from gateway.api.openai.responses.turns import turns_of
from gateway.chat.conversation import Turn, TurnCall
from tests.kit.openai.responses import ARGUMENTS, FUNCTION, SCRIPT, ask
from tests.kit.serving import (
    RunningServer,
)


def test_a_text(server: RunningServer):
    answer = ask(server, instructions="Be short.", metadata={"a": "b"}, user="u", store=True)
    chat = server.post(
        "/v1/chat/completions",
        messages=[{"role": "system", "content": "Be short."}, {"role": "user", "content": "hi"}],
        seed=1,
    ).json()

    [message] = answer["output"]
    assert message["content"][0]["text"] == chat["choices"][0]["message"]["content"]
    assert answer["status"] == message["status"] == "completed"
    assert answer["usage"]["input_tokens"] == chat["usage"]["prompt_tokens"]
    assert answer["usage"]["output_tokens"] == chat["usage"]["completion_tokens"]
    assert answer["usage"]["total_tokens"] == chat["usage"]["total_tokens"]
    assert (answer["store"], answer["metadata"], answer["user"]) == (True, {"a": "b"}, "u")
    assert (answer["instructions"], answer["truncation"]) == ("Be short.", "disabled")
    assert (answer["id"][:5], answer["object"]) == ("resp_", "response")


def test_an_answer_that_is_cut(server: RunningServer):
    answer = ask(server, max_output_tokens=5)

    assert answer["status"] == answer["output"][0]["status"] == "incomplete"
    assert answer["incomplete_details"] == {"reason": "max_output_tokens"}
    assert answer["usage"]["output_tokens"] == answer["max_output_tokens"] == 5


@pytest.mark.parametrize("asked", [{"top_logprobs": 2}, {}])
def test_log_probabilities(server: RunningServer, asked: dict[str, Any]):
    answer = ask(server, include=["message.output_text.logprobs"], max_output_tokens=9, **asked)
    part = answer["output"][0]["content"][0]

    assert len(part["logprobs"]) == answer["usage"]["output_tokens"] == 9
    said = b"".join(bytes(entry["bytes"]) for entry in part["logprobs"])
    assert said.decode(errors="ignore") == part["text"]
    assert ask(server, max_output_tokens=9)["output"][0]["content"][0]["logprobs"] == []


def test_thoughts_and_calls_are_items(caller: RunningServer):
    answer = ask(caller, tools=[FUNCTION])

    kinds = [item["type"] for item in answer["output"]]
    assert "reasoning" in kinds
    assert "function_call" in kinds
    call = next(item for item in answer["output"] if item["type"] == "function_call")
    assert (call["name"], json.loads(call["arguments"])) == ("f", json.loads(ARGUMENTS))
    assert answer["usage"]["output_tokens_details"]["reasoning_tokens"] > 0
    assert answer["tools"][0]["parameters"] == FUNCTION["parameters"]
    assert answer["output"][0]["content"][0]["text"] in SCRIPT * 2


def test_thoughts_can_be_kept_short(caller: RunningServer):
    answer = ask(caller, reasoning={"effort": "none", "summary": "auto"})

    assert answer["usage"]["output_tokens_details"]["reasoning_tokens"] == 0
    assert answer["reasoning"] == {"effort": "none", "summary": None}


def test_items_become_messages():
    """Thoughts, words and calls of one turn are one message."""
    body = {
        "model": "m",
        "instructions": "Be short.",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Oslo?"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [],
             "content": [{"type": "reasoning_text", "text": "Hm."}]},
            {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
             "content": [{"type": "output_text", "text": "Wait.", "annotations": []}]},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "rain"},
            {"type": "function_call_output", "call_id": "c2",
             "output": [{"type": "input_text", "text": "sun"}]},
            {"role": "assistant", "content": "Both."},
            {"role": "assistant", "content": "Really."},
        ],
    }  # fmt: skip
    data = decode_response_request(json.dumps(body).encode())

    calls = (TurnCall("c1", "f", {}), TurnCall("c2", "g", {}))
    assert turns_of(data.instructions, (), input_items(data)) == (
        Turn("system", "Be short."),
        Turn("user", "Oslo?"),
        Turn("assistant", "Wait.", reasoning="Hm.", calls=calls, num_items=4),
        Turn("tool", "rain", call_id="c1"),
        Turn("tool", "sun", call_id="c2"),
        Turn("assistant", "Both."),
        Turn("assistant", "Really."),
    )


def test_an_answer_can_be_sent_back(caller: RunningServer):
    """As clients do that keep the conversation themselves."""
    first = ask(caller, tools=[FUNCTION])
    call = next(item for item in first["output"] if item["type"] == "function_call")
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "rain"}
    items = [{"role": "user", "content": "hi"}, *first["output"], result]

    assert ask(caller, input=items, tools=[FUNCTION])["status"] == "completed"
