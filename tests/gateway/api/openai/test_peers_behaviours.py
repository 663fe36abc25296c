"""What the test suites of other OpenAI-compatible servers ask for and no other test here shows."""

import array
import base64
import json
import math
import re
import socket
import time
from contextlib import ExitStack
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openai import OpenAI
from pydantic import BaseModel

pytest.importorskip("llama_cpp")

from tests.kit.chat import answers
from tests.kit.chat.answers import CHAT, HI, RESPONSES, TEXT, error_of
from tests.kit.serving import (
    MODEL,
    RunningServer,
    parse_events,
    raw_request,
    running_server,
    scripted_settings,
    server_of,
    text_of_chunks,
    wait_for,
)

SENTENCE = 'a\n\nb\r\ndata: [DONE]\n\n"ü狐👩‍👩‍👧"\u2028\u0085\\ '
ARGUMENTS = {"city": "Zürich 狐 👍", "note": 'a "b" \\ \n'}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "note": {"type": "string"}},
    "required": ["city", "note"],
}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]
CALL = f"<tool_call>\n{json.dumps({'name': 'f', 'arguments': ARGUMENTS}, ensure_ascii=False)}\n"
SCRIPT = f"{CALL}</tool_call>"


server = server_of(
    scripted_settings(engine={"max_model_len": 500, "max_num_waiting": 1000}, text=SENTENCE)
)


caller = server_of(
    scripted_settings(
        model={"tool_dialect": "hermes"}, text=SCRIPT, num_tokens=3 * len(SCRIPT.encode())
    )
)
"""Says two calls, the beginning of a third in front of them or behind."""


def body_of(path: str, **fields: Any) -> dict[str, Any]:
    return {**({"messages": HI} if path == CHAT else {"prompt": "hi"}), **fields}


def good(server: RunningServer, path: str = CHAT, **fields: Any) -> dict[str, Any]:
    return answers.good(server.post(path, **body_of(path, **fields)))


def refused(server: RunningServer, path: str = CHAT, **fields: Any) -> dict[str, Any]:
    """The error of a 400; the server serves on."""
    response = server.post(path, **body_of(path, **fields))
    assert server.post(path, **body_of(path, max_tokens=1)).status_code == 200
    return error_of(response)


# Requests


both_endpoints = pytest.mark.parametrize("path", [CHAT, TEXT])
streamed_or_not = pytest.mark.parametrize("stream", [False, True])


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
    "path", ["/v1/rerank", "/v1/files", "/v1/messages", "/v1/images/generations"]
)
def test_endpoints_that_are_not_here_say_so(server: RunningServer, path: str):
    response = server.post(path, input="hi")

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "unknown_url"


# Streams


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


def test_a_dropped_crowd_leaves_the_engine_free():
    """200 long answers whose clients leave; a short one is there soon after."""
    settings = scripted_settings(
        engine={"max_num_seqs": 8, "max_num_waiting": 1000, "max_model_len": 20_000}, step_ms=5
    )
    request = raw_request(CHAT, {"messages": HI, "max_tokens": 10_000})
    with running_server(settings) as slow:
        with ExitStack() as stack:
            crowd: list[socket.socket] = [stack.enter_context(slow.connect()) for _ in range(200)]
            for connection in crowd:
                connection.sendall(request)
            wait_for(lambda: slow.health()["num_requests_in_flight"] == 200)
        started = time.monotonic()
        good(slow, max_tokens=10)
        assert time.monotonic() - started < 5
        wait_for(lambda: slow.health()["num_requests_in_flight"] == 0)


def test_health_answers_while_a_heavy_request_is_prepared(tiny_server: RunningServer):
    """Two million characters to be tokenised, and refused in the end."""
    request = raw_request(TEXT, {"prompt": "the quick brown fox " * 100_000})
    with tiny_server.connect() as connection:
        connection.sendall(request)
        connection.setblocking(False)
        slowest, answered = 0.0, False
        while not answered:
            started = time.monotonic()
            assert tiny_server.http.get("/health/live").status_code == 200
            slowest = max(slowest, time.monotonic() - started)
            try:
                answered = bool(connection.recv(1, socket.MSG_PEEK))
            except BlockingIOError:
                continue
        connection.setblocking(True)
        assert connection.recv(12) == b"HTTP/1.1 400"
    assert slowest < 2


GAUGES = ("num_requests_running", "num_requests_waiting", "num_requests_in_flight")


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
def test_gauges_follow_what_runs_and_waits(stream: bool):
    """And are back at zero soon after the last one has left."""
    settings = scripted_settings(engine={"max_num_seqs": 2, "max_num_waiting": 9}, step_ms=10)
    with running_server(settings) as slow:

        def gauges() -> tuple[float, ...]:
            return tuple(slow.metric(name) for name in GAUGES)

        assert gauges() == (0, 0, 0)
        long, short = ({"messages": HI, "max_tokens": n, "stream": stream} for n in (30_000, 3))
        with ExitStack() as stack:
            clients = [stack.enter_context(slow.connect()) for _ in range(3)]
            for client, choices in zip(clients, (1, 2, 2), strict=True):
                client.sendall(raw_request(CHAT, {**long, "n": choices}))
                wait_for(lambda: slow.metric("num_requests_in_flight") >= 1)
            wait_for(lambda: gauges() == (2, 3, 5))
            name = "num_requests_waiting_by_reason"
            assert slow.metric(f'{name}{{reason="capacity"}}') == slow.metric(name) == 3
            clients.pop().close()
            wait_for(lambda: gauges() == (2, 1, 3))
            left = time.monotonic()
        wait_for(lambda: gauges() == (0, 0, 0))
        assert time.monotonic() - left < 10
        assert slow.post(CHAT, **short).status_code == 200
        wait_for(lambda: gauges() == (0, 0, 0))


# Log-probabilities


@pytest.mark.parametrize("num_top", [0, 1, 5, 20])
@streamed_or_not
def test_as_many_likeliest_tokens_as_were_asked_for(
    tiny_server: RunningServer, num_top: int, stream: bool
):
    """Each no more likely than the one before; finite, never positive; -9999 at the lowest."""
    fields = {"logprobs": True, "top_logprobs": num_top, "max_tokens": 6, "ignore_eos": True}
    if stream:
        choices = [
            c
            for chunk in tiny_server.chunks(CHAT, **body_of(CHAT, **fields))
            for c in chunk["choices"]
        ]
        told = [entry for c in choices if c["logprobs"] for entry in c["logprobs"]["content"]]
    else:
        told = good(tiny_server, **fields)["choices"][0]["logprobs"]["content"]
    assert len(told) == 6
    for entry in told:
        values = [top["logprob"] for top in entry["top_logprobs"]]
        assert len(values) == num_top
        assert values == sorted(values, reverse=True)
        for value in (entry["logprob"], *values):
            assert math.isfinite(value)
            assert -9999 <= value <= 0


@streamed_or_not
def test_too_many_likeliest_tokens(server: RunningServer, stream: bool):
    for path, fields in ((CHAT, {"logprobs": True, "top_logprobs": 21}), (TEXT, {"logprobs": 6})):
        error = refused(server, path, stream=stream, **fields)
        assert error["param"] in ("top_logprobs", "logprobs")


# Structured outputs


def test_any_object(tiny_server: RunningServer):
    answer = good(
        tiny_server,
        response_format={"type": "json_object"},
        n=8,
        max_tokens=200,
        seed=3,
        temperature=1.5,
    )
    texts = [c["message"]["content"] for c in answer["choices"] if c["finish_reason"] == "stop"]

    assert texts
    assert all(isinstance(json.loads(text), dict) for text in texts)


@streamed_or_not
@pytest.mark.parametrize(
    "fields",
    [
        {"guided_regex": "("},
        {"guided_grammar": "start: nobody"},
        {"guided_json": {"type": "strin"}},
        {"structured_outputs": {"regex": "[z-a]"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "s"}}},
        {"response_format": {"type": "yaml"}},
    ],
)
def test_what_nobody_can_enforce_is_refused(
    tiny_server: RunningServer, fields: dict[str, Any], stream: bool
):
    assert refused(tiny_server, stream=stream, **fields)["param"].startswith(next(iter(fields)))


class Flip(BaseModel):
    heads: bool
    times: int


def test_the_official_client_parses_into_a_type(tiny_server: RunningServer):
    with OpenAI(base_url=f"{tiny_server.url}/v1", api_key="none", max_retries=0) as client:
        answer = client.chat.completions.parse(
            model=MODEL,
            messages=[{"role": "user", "content": "hi"}],
            response_format=Flip,
            seed=1,
            temperature=0,
            max_tokens=200,
            logit_bias={str(token): -20 for token in map(ord, "0123456789")},
        )
    assert isinstance(answer.choices[0].message.parsed, Flip)


# Tools


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


# Responses


def test_embeddings_have_length_one_and_keep_their_order(server: RunningServer):
    """In numbers and in base64, for texts, token ids, one and many; and usage counts them."""
    texts = ["one", "two", "one"]

    def vectors(**body: Any) -> list[list[float]]:
        answer = server.post("/v1/embeddings", **body).json()
        assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 0
        assert [entry["index"] for entry in answer["data"]] == list(range(len(answer["data"])))
        return [entry["embedding"] for entry in answer["data"]]

    one, two, again = vectors(input=texts)
    assert math.hypot(*one) == pytest.approx(1, abs=1e-6)
    assert one == again != two
    assert vectors(input="two") == [two]
    packed = vectors(input=texts, encoding_format="base64")
    floats = [list(array.array("f", base64.b64decode(text))) for text in packed]  # type: ignore[arg-type]
    assert floats == [one, two, one]
    ids = server.post("/tokenize", prompt="one").json()["tokens"]
    assert vectors(input=[ids, ids]) == [one, one] == vectors(input=[ids]) * 2


def test_events_of_a_response_speak_of_the_same_things(server: RunningServer):
    """One id for the response, one for the message, in order, and the joined text is the whole."""
    text = server.post(RESPONSES, input="hi", stream=True, max_output_tokens=90).text
    events = [json.loads(each.partition("\ndata: ")[2]) for each in text[:-2].split("\n\n")]
    kinds = [event["type"].removeprefix("response.") for event in events]
    deltas = [event["delta"] for event in events if event["type"].endswith("text.delta")]

    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert set(kinds[4:-4]) == {"output_text.delta"}
    assert kinds[-4:-1] == ["output_text.done", "content_part.done", "output_item.done"]
    assert len({event["response"]["id"] for event in events if "response" in event}) == 1
    items = {event["item"]["id"] for event in events if "item" in event}
    assert items == {event["item_id"] for event in events if "item_id" in event}
    assert len(items) == 1
    assert "".join(deltas) == events[-1]["response"]["output"][0]["content"][0]["text"]
