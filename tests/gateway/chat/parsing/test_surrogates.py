"""Halves of surrogate pairs: a 400 that names the place, and never the end of a stream."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.chat.parsing.pieces import CallArguments
from gateway.chat.parsing.surrogates import escaped, find_half
from gateway.chat.tools.dialects.gemma import GEMMA4
from gateway.chat.tools.dialects.generic import GENERIC
from gateway.chat.tools.dialects.hermes import HERMES
from tests.kit.chat.answers import CHAT, EMBEDDINGS, HI, RESPONSES, TEXT
from tests.kit.serving import MODEL, RunningServer

HALF = "a\ud800"


def function(**fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", **fields}}


def send(server: RunningServer, path: str, body: dict[str, Any]) -> httpx.Response:
    content = json.dumps({"model": MODEL, **body})
    assert content.isascii()
    return server.http.post(path, content=content, headers={"content-type": "application/json"})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, {"messages": [{"role": "user", "content": HALF}]}, "messages[0].content"),
        (CHAT, {"messages": [*HI, {"role": "user", "content": "\udc00"}]}, "messages[1].content"),
        (
            CHAT,
            {"messages": [{"role": "user", "content": [{"type": "text", "text": HALF}]}]},
            "messages[0].content[0].text",
        ),
        (CHAT, {"messages": HI, "stop": HALF}, "stop"),
        (CHAT, {"messages": HI, "stop": ["a", HALF]}, "stop[1]"),
        (
            CHAT,
            {"messages": HI, "tools": [function(description=HALF)]},
            "tools[0].function.description",
        ),
        (
            CHAT,
            {
                "messages": HI,
                "tools": [function(parameters={"properties": {"a": {"enum": [HALF]}}})],
            },
            "tools[0].function.parameters.properties.a.enum[0]",
        ),
        (
            CHAT,
            {"messages": HI, "tools": [function(parameters={"properties": {HALF: {}}})]},
            "tools[0].function.parameters.properties",
        ),
        (CHAT, {"messages": HI, "metadata": {"a": HALF}}, "metadata.a"),
        (CHAT, {"messages": HI, "unknown": [HALF]}, "unknown[0]"),
        (CHAT, {"messages": HI, HALF: 1}, None),
        (TEXT, {"prompt": HALF}, "prompt"),
        (TEXT, {"prompt": ["a", HALF]}, "prompt[1]"),
        (TEXT, {"prompt": "a", "suffix": HALF}, "suffix"),
        (RESPONSES, {"input": HALF}, "input"),
        (RESPONSES, {"input": [{"role": "user", "content": HALF}]}, "input[0].content"),
        (RESPONSES, {"input": "hi", "instructions": HALF}, "instructions"),
        (EMBEDDINGS, {"input": HALF}, "input"),
        (EMBEDDINGS, {"input": ["a", HALF]}, "input[1]"),
        ("/generate", {"prompt": HALF}, "prompt"),
        ("/tokenize", {"prompt": HALF}, "prompt"),
    ],
)
def test_half_a_pair_is_refused_with_its_place(
    open_server: RunningServer, path: str, body: dict[str, Any], param: str | None, stream: bool
):
    response = send(open_server, path, {**body, "stream": stream})
    error = response.json()["error"]

    assert (response.status_code, error["param"], error["code"]) == (400, param, "invalid_value")
    assert "surrogate" in error["message"]
    assert f"`{param}`" in error["message"] or param is None


def test_whole_pairs_are_characters(open_server: RunningServer):
    body = {"messages": [{"role": "user", "content": "👍 \\ud800"}], "max_tokens": 1}
    assert send(open_server, CHAT, body).status_code == 200


BROKEN = '{"city": "\\ud800"}'


def test_a_schema_and_arguments_in_a_text_of_their_own(open_server: RunningServer):
    """JSON in a string may have what the body around it may not."""
    error = send(open_server, TEXT, {"prompt": "a", "guided_json": BROKEN}).json()["error"]
    assert error["param"] == "guided_json"
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": BROKEN}}
    history = [*HI, {"role": "assistant", "tool_calls": [call]}]
    assert send(open_server, CHAT, {"messages": history, "max_tokens": 1}).status_code == 200


@pytest.mark.parametrize("field", [b'"\xff": 1', b'"new": "\xff"', b'"guided_x": "\xff"'])
def test_what_nobody_reads_may_be_no_utf8(open_server: RunningServer, field: bytes):
    """It is ignored or refused, as far as it is read at all."""
    body = b'{"model": "%s", "prompt": "a", "max_tokens": 1, %s}' % (MODEL.encode(), field)
    response = open_server.http.post(
        TEXT, content=body, headers={"content-type": "application/json"}
    )

    assert response.status_code in (200, 400), response.text


def test_a_schema_that_is_no_utf8(open_server: RunningServer):
    tools = b'[{"type": "function", "function": {"name": "f", "parameters": {"title": "\xff"}}}]'
    body = b'{"model": "%s", "messages": [{"role": "user", "content": "hi"}], "tools": %s}'
    response = open_server.http.post(
        CHAT, content=body % (MODEL.encode(), tools), headers={"content-type": "application/json"}
    )

    assert response.status_code == 400
    assert response.json()["error"]["param"] == "tools[0].function.parameters"


OBJECT = '{"a": "\\ud800", "b": "狐"}'


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        (HERMES, f'<tool_call>{{"arguments": {OBJECT}, "name": "f"}}</tool_call>'),
        (HERMES, f'<tool_call>{{"name": "f", "arguments": {OBJECT}}}</tool_call>'),
        (GENERIC, f'{{"name": "f", "id": 1, "arguments": {OBJECT}}}'),
        (GENERIC, f'{{"name": "f", "id": 1, "arguments": {json.dumps(OBJECT)}}}'),
        (GENERIC, '{"name": "f", "arguments": "{\\"a\\": \\"\\ud800\\", \\"b\\": \\"狐\\"}"}'),
        (GEMMA4, '<|tool_call>call:f{a:"\\ud800",b:"狐"}<tool_call|>'),
    ],
)
def test_what_a_model_writes_can_be_sent(dialect: Any, text: str):
    """Also in a call that is told when all of it is there, and has been read and written again."""
    parser = dialect.new_parser(names=["f"], new_id=lambda: "id", max_calls=None)
    pieces = [*parser.feed(text), *parser.finish()]
    told = "".join(piece.text for piece in pieces if isinstance(piece, CallArguments))

    assert "狐".encode() in told.encode()
    assert json.loads(told) == {"a": "\ud800", "b": "狐"}


JSON = st.recursive(
    st.text(st.sampled_from("ab\udfff\udc00👍")) | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("ab"), inner),
)


@given(JSON)
def test_a_place_is_found_if_and_only_if_there_is_one(value: Any):
    body = json.dumps(value)
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        assert find_half(body.encode()) is not None
    else:
        assert find_half(body.encode()) is None


@given(JSON)
def test_escapes_say_the_same(value: Any):
    """In the middle of other letters, which stay as they are."""
    text = escaped(json.dumps(value, ensure_ascii=False))
    assert json.loads(text.encode()) == value
