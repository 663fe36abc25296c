"""Bodies to Structs: what is wrong is named by OpenAI's path and code."""

import json

import msgspec
import pytest

from gateway.api.openai.protocol.requests import (
    ChatCompletionRequest,
    decode_chat_completion,
    decode_completion,
)
from gateway.http.decoding import MISTAKES, to_invalid_request
from runtime.errors import InvalidRequest

GOOD = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def mistake(body: bytes | dict[str, object]) -> InvalidRequest:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(MISTAKES) as caught:
        decode_chat_completion(raw)
    return to_invalid_request(caught.value, ChatCompletionRequest)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"response_format": {"type": "regex"}}, "`text`, `json_object`, `json_schema`."),
        ({"service_tier": "gold"}, "`auto`, `default`, `fast`, `flex`, `priority`, `scale`."),
        ({"tool_choice": "maybe"}, "`auto`, `none`, `required`."),
        ({"tool_choice": {"type": "f"}}, "`function`, `custom`, `allowed_tools`."),
        (
            {"messages": [{"role": "boss", "content": "hi"}]},
            "`developer`, `system`, `user`, `assistant`, `tool`, `function`.",
        ),
    ],
)
def test_a_wrong_word_is_answered_with_those_that_would_do(change: dict[str, object], says: str):
    error = mistake({**GOOD, **change})
    assert error.code == "invalid_value"
    assert str(error).endswith(f" Known are {says}")


def test_a_wrong_number_is_no_wrong_word():
    assert "Known are" not in str(mistake({**GOOD, "temperature": 3}))


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"temperature": "1"}, "temperature", "invalid_type"),
        ({"temperature": 2.1}, "temperature", "invalid_value"),
        ({"temperature": True}, "temperature", "invalid_type"),
        ({"top_p": -0.1}, "top_p", "invalid_value"),
        ({"presence_penalty": 3}, "presence_penalty", "invalid_value"),
        ({"frequency_penalty": -3}, "frequency_penalty", "invalid_value"),
        ({"n": 0}, "n", "invalid_value"),
        ({"n": 129}, "n", "invalid_value"),
        ({"n": 1.5}, "n", "invalid_type"),
        ({"max_tokens": -2}, "max_tokens", "invalid_value"),
        ({"max_completion_tokens": -2}, "max_completion_tokens", "invalid_value"),
        ({"seed": 2**63}, "seed", "invalid_value"),
        ({"seed": -(2**63) - 1}, "seed", "invalid_value"),
        ({"seed": 10**30}, "seed", "invalid_value"),
        ({"stop": ["a"] * 65}, "stop", "invalid_value"),
        ({"stop": "a" * 4097}, "stop", "invalid_value"),
        ({"stop": ["a", "a" * 4097]}, "stop[1]", "invalid_value"),
        ({"stop": ""}, "stop", "invalid_value"),
        ({"stop": ["a", ""]}, "stop[1]", "invalid_value"),
        ({"stop": 3}, "stop", "invalid_type"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": "hi"}, "messages", "invalid_type"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role", "missing_required_parameter"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        (
            {"messages": [GOOD["messages"][0], {"role": "boss", "content": "hi"}]},
            "messages[1].role",
            "invalid_value",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "video", "x": 1}]}]},
            "messages[0].content[0].type",
            "invalid_value",
        ),
        (
            {"messages": [{"role": "user", "content": None}]},
            "messages[0].content",
            "missing_required_parameter",
        ),
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"messages": [None]}, "messages[0]", "invalid_type"),
        ({"messages": [3]}, "messages[0]", "invalid_type"),
        ({"model": 3}, "model", "invalid_type"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage", "invalid_type"),
        ({"service_tier": "gold"}, "service_tier", "invalid_value"),
        ({"deadline": "soon"}, "deadline", "invalid_type"),
        ({"deadline": True}, "deadline", "invalid_type"),
        ({"deadline": [1]}, "deadline", "invalid_type"),
        ({"cache_salt": ""}, "cache_salt", "invalid_value"),
        ({"cache_salt": "s" * 257}, "cache_salt", "invalid_value"),
        ({"cache_salt": 3}, "cache_salt", "invalid_type"),
    ],
)
def test_mistakes_are_named(change, param, code):
    error = mistake({**GOOD, **change})

    assert (error.param, error.code) == (param, code)
    assert param in str(error)


def test_missing_fields():
    assert mistake({"model": "m"}).param == "messages"
    assert decode_chat_completion(json.dumps({**GOOD, "model": None}).encode()).model is None


@pytest.mark.parametrize("body", [b'"text"', b"[1]", b"3", b"null"])
def test_bodies_that_are_no_objects(body):
    error = mistake(body)

    assert error.param is None
    assert error.code == "invalid_type"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"model": }',
        json.dumps(GOOD).encode() + b" x",
        b'{"model": "m", "messages": [{"role": "user", "content": "\xff"}]}',
        b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800 "}]}',
        b'{"model": "m", "temperature": NaN}',
        b'{"a":' * 100_000,
    ],
)
def test_bodies_that_are_no_json(body):
    error = mistake(body)

    assert error.param is None
    assert error.code == "invalid_json"


def test_a_number_out_of_range_is_named():
    error = mistake(json.dumps(GOOD).encode()[:-1] + b', "deadline": 1e400}')

    assert error.param == "deadline"


def test_unknown_fields_are_ignored():
    assert decode_chat_completion(json.dumps({**GOOD, "other": 3}).encode()).model == "m"


def test_extremes_that_are_right():
    body = {
        **GOOD,
        "temperature": 2,
        "top_p": 0,
        "n": 128,
        "seed": -(2**63),
        "stop": ["a" * 4096] * 64,
    }

    assert decode_chat_completion(json.dumps(body).encode()).n == 128


def test_completion_prompts_of_every_kind():
    for prompt in ("a", ["a"], [1], [[1], [2]], None):
        body = msgspec.json.encode({"model": "m", "prompt": prompt})
        assert decode_completion(body).prompt == prompt
    with pytest.raises(msgspec.ValidationError):
        decode_completion(b'{"model": "m"}')
    with pytest.raises(msgspec.ValidationError):
        decode_completion(b'{"model": "m", "prompt": [1.5]}')
