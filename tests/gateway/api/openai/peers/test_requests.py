"""Requests and streams, as users of other servers expect them."""

import re
from typing import Any

import pytest

from tests.kit.chat.answers import CHAT, RESPONSES, TEXT
from tests.kit.engines import needs_llama_library
from tests.kit.openai.peers import SENTENCE, body_of, both_endpoints, good, refused, streamed_or_not
from tests.kit.serving import (
    MODEL,
    RunningServer,
    parse_events,
    running_server,
    scripted_settings,
    text_of_chunks,
)

needs_llama_library()


@both_endpoints
@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("seed", [0, -1, 2**63 - 1, -(2**63)], [2**64, -(2**63) - 1, 1.5]),
        ("temperature", [0, 2], [-0.1, 2.1]),
        ("top_p", [0.1, 1], [-0.1, 1.1]),
        ("presence_penalty", [-2, 2], [-2.1, 2.1]),
        ("frequency_penalty", [-2, 2], [-2.1, 2.1]),
        ("logit_bias", [{"10": -100, "11": 100}, {}], [{"100000": 1}, {"10": 101}]),
    ],
)
def test_numbers_within_their_ranges_and_beyond(
    server: RunningServer, path: str, name: str, right: list[Any], wrong: list[Any]
):
    for value in right:
        good(server, path, max_tokens=2, **{name: value})
    for value in wrong:
        assert refused(server, path, **{name: value})["param"].startswith(name)


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ("hi", "messages"),
        ({"role": "user", "content": "hi"}, "messages"),
        (None, "messages"),
        (["hi"], "messages[0]"),
        ([{"content": "hi"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": None}], "messages[0].content"),
        ([{"role": "user", "content": 7}], "messages[0].content"),
        ([{"role": "tool", "tool_call_id": 3, "content": "x"}], "messages[0].tool_call_id"),
    ],
)
@streamed_or_not
def test_conversations_that_are_none(
    server: RunningServer, messages: Any, param: str, stream: bool
):
    assert refused(server, messages=messages, stream=stream)["param"] == param


@both_endpoints
def test_options_of_a_stream_want_a_stream(server: RunningServer, path: str):
    for fields in ({}, {"stream": False}):
        error = refused(server, path, stream_options={"include_usage": True}, **fields)
        assert error["param"] == "stream_options"


@both_endpoints
@streamed_or_not
def test_what_is_too_long_is_told_with_the_limit(server: RunningServer, path: str, stream: bool):
    name, long = ("messages", [{"role": "user", "content": "x" * 600}])
    if path == TEXT:
        name, long = "prompt", "x" * 600  # type: ignore[assignment]
    error = refused(server, path, stream=stream, **{name: long})
    assert (error["param"], error["code"]) == (name, "context_length_exceeded")
    assert "500" in error["message"]


@pytest.mark.parametrize(
    "path", ["/v1/classify", "/v1/files", "/v1/messages", "/v1/images/generations"]
)
def test_endpoints_that_are_not_here_say_so(server: RunningServer, path: str):
    response = server.post(path, input="hi")

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "unknown_url"


@both_endpoints
def test_events_survive_any_text_and_any_cut(server: RunningServer, path: str):
    """Blank lines, marks of events, line separators and long characters, read in odd pieces."""
    whole = good(server, path, max_tokens=150)["choices"][0]
    wanted = whole["message"]["content"] if path == CHAT else whole["text"]
    assert all(part in wanted for part in SENTENCE.split("\u2028"))
    request = {"model": MODEL, **body_of(path, max_tokens=150, stream=True)}
    with server.http.stream("POST", path, json=request) as response:
        raw = b"".join(response.iter_raw(7))
    assert b"\r" not in raw
    chunks = parse_events(raw.decode())
    texts = [
        choice["delta"].get("content", "") if path == CHAT else choice["text"]
        for chunk in chunks
        for choice in chunk["choices"]
    ]
    assert "".join(texts) == wanted
    assert "\ufffd" not in wanted.lstrip("\ufffd")  # the script begins where the prompt says


@pytest.mark.parametrize("stop", [None, ["狐x"]])
def test_an_answer_ends_with_a_whole_character(server: RunningServer, stop: Any) -> None:
    """On every endpoint, whole and streamed, wherever the limit falls; every token is counted."""
    for limit in range(30, 62, 3):
        chat = server.post(CHAT, **body_of(CHAT, max_tokens=limit, stop=stop)).json()
        text = server.post(TEXT, prompt="hi", max_tokens=limit, stop=stop, logprobs=0).json()
        native = server.post("/generate", prompt="hi", max_new_tokens=limit, stop=stop).json()
        response = server.post(RESPONSES, input="hi", max_output_tokens=limit).json()
        [said], [completed] = chat["choices"], text["choices"]
        told = [said["message"]["content"], completed["text"], native["text"]]
        told.append(response["output"][0]["content"][0]["text"])
        chunks = server.chunks(CHAT, **body_of(CHAT, max_tokens=limit, stop=stop))
        assert text_of_chunks(chunks) == told[0]
        assert not any(each.endswith("\ufffd") for each in told)
        assert said["finish_reason"] == "length"
        assert chat["usage"]["completion_tokens"] == limit
        assert len(completed["logprobs"]["tokens"]) == limit


@both_endpoints
@pytest.mark.parametrize("value", [True, False, None])
def test_padding_that_is_not_there_can_be_left_out(server: RunningServer, path: str, value: Any):
    """Events are the same with the option and without."""

    def choices(**fields: Any) -> list[Any]:
        chunks = server.chunks(path, **body_of(path, max_tokens=9, **fields))
        assert not any("obfuscation" in chunk for chunk in chunks)
        merged = [choice for chunk in chunks for choice in chunk["choices"]]
        texts = [c["delta"].get("content", "") if path == CHAT else c["text"] for c in merged]
        return ["".join(texts), merged[-1]["finish_reason"]]

    assert choices(stream_options={"include_obfuscation": value}) == choices()


@both_endpoints
@streamed_or_not
def test_a_fingerprint_in_all_of_an_answer(server: RunningServer, path: str, stream: bool):
    told = {tell.get("system_fingerprint") for tell in said(server, path, stream)}

    assert len(told) == 1
    assert re.fullmatch("fp_[0-9a-f]+", told.pop())


def test_no_fingerprint_where_the_settings_leave_it_out():
    settings = scripted_settings(model={"system_fingerprint": False})
    with running_server(settings) as quiet:
        told = [
            tell
            for path in (CHAT, TEXT)
            for stream in (False, True)
            for tell in said(quiet, path, stream)
        ]
    assert len(told) > 4
    assert not any("system_fingerprint" in tell for tell in told)


def said(server: RunningServer, path: str, stream: bool) -> list[dict[str, Any]]:
    """The chunks of an answer, or the whole one alone."""
    if not stream:
        return [good(server, path, max_tokens=3)]
    options = {"include_usage": True}
    return server.chunks(path, **body_of(path, max_tokens=3, stream_options=options))
