"""What the real model answers, whole and streamed, against the schemas that OpenAI publishes."""

import json
from typing import Any

import pytest

from compat_tests.conftest import MODEL, Server
from tests.kit.openai.schemas import (
    check_answer,
    check_chat,
    check_chat_chunk,
    check_completion,
    check_completion_chunk,
    check_error,
)
from tests.kit.serving import parse_events

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
PARIS = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
CITY = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = [{"type": "function", "function": {"name": "tell_city", "parameters": CITY}}]


def post(server: Server, path: str, **body: Any) -> Any:
    return server.http.post(path, json={"model": MODEL, "temperature": 0, "seed": 1, **body})


def both_ways(server: Server, path: str, **body: Any) -> tuple[dict[str, Any], list[Any]]:
    """The whole answer, and the chunks of the same one streamed with its usage."""
    whole = post(server, path, **body)
    assert whole.status_code == 200, whole.text
    options = {"include_usage": True}
    stream = post(server, path, stream=True, stream_options=options, **body)
    return whole.json(), parse_events(stream.text)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"max_tokens": 24}, "stop"),
        ({"max_tokens": 3}, "length"),
        ({"max_tokens": 24, "stop": " Paris"}, "stop"),
        ({"max_tokens": 3, "n": 2, "temperature": 1}, "length"),
        ({"max_tokens": 5, "logprobs": True, "top_logprobs": 2}, "length"),
        ({"max_tokens": 24, "service_tier": "flex"}, "stop"),
        (
            {
                "max_tokens": 24,
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "city", "schema": CITY, "strict": True},
                },
            },
            "stop",
        ),
        ({"max_tokens": 60, "tools": TOOLS, "tool_choice": "none"}, None),
        (
            {
                "max_tokens": 60,
                "tools": TOOLS,
                "tool_choice": "required",
                "parallel_tool_calls": False,
                "logprobs": True,
            },
            "tool_calls",
        ),
    ],
)
def test_chats(server: Server, fields: dict[str, Any], reason: str | None):
    whole, chunks = both_ways(server, CHAT, messages=PARIS, **fields)

    check_chat(whole)
    for chunk in chunks:
        check_chat_chunk(chunk)
    reasons = [choice["finish_reason"] for choice in whole["choices"]]
    ends = [c["finish_reason"] for chunk in chunks for c in chunk["choices"] if c["finish_reason"]]
    assert sorted(ends) == sorted(reasons)
    assert reason is None or set(reasons) == {reason}
    assert chunks[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
    if reason == "tool_calls":
        [call] = whole["choices"][0]["message"]["tool_calls"]
        assert json.loads(call["function"]["arguments"])["city"] in ("Paris", "Rome")


@pytest.mark.parametrize("fields", [{}, {"logprobs": 2}, {"n": 2}, {"echo": True}, {"stop": "b"}])
def test_completions(server: Server, fields: dict[str, Any]):
    body = {"prompt": "def add(a, b):\n    return", "max_tokens": 6, **fields}
    whole, chunks = both_ways(server, TEXT, **body)

    check_completion(whole)
    for chunk in chunks:
        check_completion_chunk(chunk)
    texts = ["" for _ in whole["choices"]]
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        texts[choice["index"]] += choice["text"]
    if "n" not in fields:
        assert texts == [choice["text"] for choice in whole["choices"]]


def test_models(server: Server):
    check_answer("ListModelsResponse", server.http.get("/v1/models").json())
    check_answer("Model", server.http.get(f"/v1/models/{MODEL}").json())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        (CHAT, {"messages": PARIS, "model": "other"}, 404),
        (CHAT, {"messages": PARIS, "temperature": 3}, 400),
        (CHAT, {"messages": PARIS, "tool_choice": "required"}, 400),
        (CHAT, {"messages": PARIS, "response_format": {"type": "yaml"}}, 400),
        (TEXT, {"prompt": [10] * 40_000}, 400),
    ],
)
def test_errors(server: Server, path: str, fields: dict[str, Any], status: int, stream: bool):
    response = post(server, path, stream=stream, **fields)

    assert response.status_code == status
    check_error(response.json())
