"""The API over real HTTP, on the scripted engine with one token per byte."""

import http.client
import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import psutil
import pytest
from openai import OpenAI

from gateway.settings import ServerSettings
from tests.serving import (
    MODEL,
    RunningServer,
    parse_events,
    raw_request,
    running_server,
    scripted_settings,
    tensorrt_settings,
    wait_for,
)
from tests.tensorrt_double import findable

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
HI = [{"role": "user", "content": "hi"}]
ENGINES = ["scripted", pytest.param("1.2", marks=pytest.mark.slow), "1.4"]
"""The scripted engine, and TensorRT-LLM's on the double of these releases."""

SENTENCE = "Schöne Grüße: the quick brown fox, 狐狸! "


@pytest.fixture(scope="module", params=ENGINES)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """Fast, and never full; on each engine."""
    server = ServerSettings(max_body_bytes=100_000)
    engine = {"max_num_waiting": 1000, "max_model_len": 2048}
    if request.param == "scripted":
        settings = scripted_settings(server=server, engine=engine, text=SENTENCE)
        with running_server(settings) as running:
            yield running
        return
    folder = tmp_path_factory.mktemp("model")
    settings = tensorrt_settings(folder, SENTENCE, server=server, engine=engine)
    with findable(request.param), running_server(settings, model_path=str(folder)) as running:
        yield running


@pytest.fixture(scope="module")
def slow_server() -> Iterator[RunningServer]:
    """20 ms a token, room for one request and a place to wait for another."""
    settings = scripted_settings(
        server=ServerSettings(keep_alive_interval=60),
        engine={"max_num_seqs": 1, "max_num_waiting": 1},
        step_ms=20,
    )
    with running_server(settings) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[OpenAI]:
    """The official client, refusing whatever does not fit its types."""
    with strict_client(server) as client:
        yield client


def strict_client(server: RunningServer) -> OpenAI:
    return OpenAI(
        base_url=f"{server.url}/v1",
        api_key="none",
        max_retries=0,
        _strict_response_validation=True,
    )


def text_of(chunks: list[dict[str, Any]], index: int = 0) -> str:
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    mine = [choice for choice in choices if choice["index"] == index]
    return "".join(c["delta"].get("content", "") if "delta" in c else c["text"] for c in mine)


def without_identity(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key not in ("id", "created")}


def test_models(client):
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).owned_by == "lockgate"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("acme/other")
    assert caught.value.code == "model_not_found"


def test_chat(client):
    answer = client.chat.completions.create(model=MODEL, messages=HI, max_tokens=12)

    assert answer.id.startswith("chatcmpl-")
    assert answer.object == "chat.completion"
    assert answer.model == MODEL
    assert answer.system_fingerprint.startswith("fp_")
    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.message.refusal is None
    assert choice.finish_reason == "length"
    assert answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12
    assert answer.usage.prompt_tokens_details.cached_tokens == 0


def test_stream_equals_whole(server):
    for max_tokens in (1, 2, 30, 200):
        whole = server.chat(max_tokens=max_tokens).json()
        chunks = server.chunks(
            CHAT, messages=HI, max_tokens=max_tokens, stream_options={"include_usage": True}
        )

        assert text_of(chunks) == whole["choices"][0]["message"]["content"]
        assert chunks[-1]["usage"] == whole["usage"]
        assert chunks[-2]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]


def test_order_of_chunks(server):
    """Role first, then text, then one empty delta with the reason, then the usage."""
    chunks = server.chunks(CHAT, messages=HI, max_tokens=20, stream_options={"include_usage": True})

    first, *middle, last, usage = chunks
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert all(set(chunk["choices"][0]["delta"]) == {"content"} for chunk in middle)
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in [first, *middle])
    assert last["choices"][0] == {
        "index": 0,
        "delta": {},
        "logprobs": None,
        "finish_reason": "length",
        "stop_reason": None,
    }
    assert usage["choices"] == []
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}


def test_no_usage_unless_asked_for(server):
    for options in ({}, {"stream_options": {}}, {"stream_options": {"include_usage": False}}):
        chunks = server.chunks(CHAT, messages=HI, max_tokens=3, **options)
        assert all("usage" not in chunk and chunk["choices"] for chunk in chunks)


def test_headers_of_a_stream(server):
    response = server.chat(stream=True, max_tokens=1)

    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["x-request-id"].startswith("req_")


def test_official_client_streams(client):
    stream = client.chat.completions.create(
        model=MODEL, messages=HI, max_tokens=40, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)

    whole = client.chat.completions.create(model=MODEL, messages=HI, max_tokens=40)
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == (
        whole.choices[0].message.content
    )
    assert chunks[-1].usage == whole.usage


def test_several_choices(server):
    answer = server.chat(n=3, max_tokens=5).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert answer["usage"]["completion_tokens"] == 15
    assert (
        answer["usage"]["prompt_tokens"]
        == server.chat(max_tokens=5).json()["usage"]["prompt_tokens"]
    )

    chunks = server.chunks(CHAT, messages=HI, n=2, max_tokens=5)
    for index in (0, 1):
        mine = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == index]
        assert mine[0]["delta"]["role"] == "assistant"
        assert [choice["finish_reason"] for choice in mine[1:]] == (
            [None] * (len(mine) - 2) + ["length"]
        )
        assert text_of(chunks, index) == answer["choices"][index]["message"]["content"]


def test_content_parts_equal_the_string(server):
    parts = [{"type": "text", "text": "hi"}]
    by_parts = server.post(CHAT, messages=[{"role": "user", "content": parts}], max_tokens=9)

    assert without_identity(by_parts.json()) == without_identity(server.chat(max_tokens=9).json())


def test_max_tokens_by_either_name(server):
    assert without_identity(server.chat(max_tokens=9).json()) == without_identity(
        server.chat(max_completion_tokens=9).json()
    )


def test_chat_without_max_tokens_fills_the_context(server):
    usage = server.chat().json()["usage"]

    assert usage["total_tokens"] == 2048


def test_conversations(server):
    answer = server.chat(max_tokens=5).json()["choices"][0]["message"]
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    for messages in (
        [*HI, answer, *HI],
        [*HI, *HI],
        [{"role": "system", "content": "s"}, {"role": "system", "content": "t"}, *HI],
        [{"role": "developer", "content": "s"}, *HI],
        [{"role": "user", "content": "hi", "name": "Ann", "weather": "fine"}],
        [*HI, {"role": "assistant", "content": None, "tool_calls": [call]}],
        [*HI, {"role": "tool", "tool_call_id": "1", "content": "42"}],
    ):
        assert server.post(CHAT, messages=messages, max_tokens=1).status_code == 200


def test_stop_strings(server):
    """Found across tokens, which are bytes here; nothing of it or after it is shown."""
    whole = server.chat(max_tokens=150).json()["choices"][0]["message"]["content"]
    assert "brown fox" in whole
    expected = whole[: whole.index("brown fox")]
    for stop in ("brown fox", ["never", "brown fox"]):
        choice = server.chat(max_tokens=150, stop=stop).json()["choices"][0]
        assert choice["message"]["content"] == expected
        assert choice["finish_reason"] == "stop"

        chunks = server.chunks(CHAT, messages=HI, max_tokens=150, stop=stop)
        assert text_of(chunks) == expected
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_service_tier_says_what_was_used(client):
    for tier, extra, served in (
        ("priority", {}, "priority"),
        ("flex", {}, "flex"),
        ("flex", {"priority": 5}, "default"),
        ("default", {}, "default"),
    ):
        answer = client.chat.completions.create(
            model=MODEL, messages=HI, max_tokens=1, service_tier=tier, extra_body=extra
        )
        assert answer.service_tier == served
    stream = client.chat.completions.create(
        model=MODEL, messages=HI, max_tokens=1, service_tier="auto", stream=True
    )
    assert {chunk.service_tier for chunk in stream} == {"default"}


def test_parameters_of_this_server_go_through_the_official_client(client):
    """They change when an answer comes, not what it says."""
    plain = client.chat.completions.create(model=MODEL, messages=HI, max_tokens=9)
    extra = {"priority": "batch", "deadline": time.time() + 60, "cache_salt": "s"}
    chat = client.chat.completions.create(
        model=MODEL, messages=HI, max_tokens=9, user="ann", n=2, extra_body=extra
    )
    completion = client.completions.create(
        model=MODEL, prompt="hi", max_tokens=9, extra_body={**extra, "priority": -7}
    )

    assert {choice.message.content for choice in chat.choices} == {plain.choices[0].message.content}
    assert completion.choices[0].finish_reason == "length"
    with pytest.raises(openai.BadRequestError, match="interactive") as caught:
        client.chat.completions.create(model=MODEL, messages=HI, extra_body={"priority": "urgent"})
    assert caught.value.param == "priority"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"priority": "urgent"}, '"interactive", "normal", "batch"'),
        ({"priority": 1.5}, "-1000 to 1000"),
        ({"priority": True}, "-1000 to 1000"),
        ({"priority": 5000}, "-1000 to 1000"),
        ({"deadline": 30}, "seconds in the past"),
        ({"deadline": "soon"}, "got `str`"),
        ({"deadline": False}, "got `bool`"),
        ({"cache_salt": ""}, "length >= 1"),
        ({"cache_salt": "s" * 257}, "length <= 256"),
    ],
)
def test_mistakes_in_the_parameters_of_this_server(server, change, says):
    """On both endpoints: a 400 that names the field and says what it has to be."""
    [name] = change
    for response in (server.chat(**change), server.post(TEXT, prompt="hi", **change)):
        error = response.json()["error"]
        assert (response.status_code, error["param"]) == (400, name)
        assert says in error["message"]


def test_a_deadline_that_is_not_finite(server):
    body = f'{{"model": "{MODEL}", "prompt": "hi", "deadline": 1e400}}'
    response = server.http.post(
        TEXT, content=body.encode(), headers={"content-type": "application/json"}
    )

    assert response.status_code == 400
    assert response.json()["error"]["param"] == "deadline"


def test_completion(client):
    answer = client.completions.create(model=MODEL, prompt="hi")

    assert answer.id.startswith("cmpl-")
    assert answer.object == "text_completion"
    assert answer.usage.completion_tokens == 16
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].logprobs is None


def test_prompts_of_every_kind(server):
    """Text and its token ids give the same; prompts and choices are numbered prompt * n + i."""
    ids = [256, *b"hi"]
    by_text = server.post(TEXT, prompt="hi", max_tokens=9).json()
    for prompt in (["hi"], ids, [ids]):
        answer = server.post(TEXT, prompt=prompt, max_tokens=9).json()
        assert without_identity(answer) == without_identity(by_text)

    other = server.post(TEXT, prompt="there", max_tokens=9).json()
    batch = server.post(TEXT, prompt=["hi", "there"], max_tokens=9, n=2).json()
    texts = [choice["text"] for choice in batch["choices"]]
    assert [choice["index"] for choice in batch["choices"]] == [0, 1, 2, 3]
    assert texts == [by_text["choices"][0]["text"]] * 2 + [other["choices"][0]["text"]] * 2
    assert batch["usage"]["prompt_tokens"] == 3 + 6

    chunks = server.chunks(TEXT, prompt=["hi", "there"], max_tokens=9, n=2)
    assert all(len(chunk["choices"]) == 1 for chunk in chunks)
    assert [text_of(chunks, index) for index in range(4)] == texts


def test_echo(server):
    plain = server.post(TEXT, prompt="hi", max_tokens=9).json()["choices"][0]["text"]
    for prompt in ("hi", [256, *b"hi"]):
        answer = server.post(TEXT, prompt=prompt, max_tokens=9, echo=True)
        assert answer.json()["choices"][0]["text"] == "hi" + plain
        chunks = server.chunks(TEXT, prompt=prompt, max_tokens=9, echo=True)
        assert text_of(chunks) == "hi" + plain


def test_echo_of_the_prompt_alone(server):
    answer = server.post(TEXT, prompt=["hi", "there"], max_tokens=0, echo=True).json()
    chunks = server.chunks(
        TEXT, prompt="hi", max_tokens=0, echo=True, stream_options={"include_usage": True}
    )

    assert [choice["text"] for choice in answer["choices"]] == ["hi", "there"]
    assert answer["usage"]["completion_tokens"] == 0
    assert text_of(chunks) == "hi"
    assert chunks[-1]["usage"]["total_tokens"] == 3


def test_empty_prompt_begins_a_text(server):
    assert server.post(TEXT, prompt="", max_tokens=1).json()["usage"]["prompt_tokens"] == 1


def test_long_prompts(server):
    """Past the length at which tokenising moves to a thread; past the context."""
    answer = server.post(TEXT, prompt="a" * 25_000, max_tokens=1)

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"


def check_error(response: httpx.Response, status: int, param: str | None, code: str) -> None:
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (status, param, code)
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    assert response.headers["openai-processing-ms"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("change", "status", "param", "code"),
    [
        ({"model": "other"}, 404, "model", "model_not_found"),
        ({"messages": []}, 400, "messages", "invalid_value"),
        (
            {"messages": [{"role": "boss", "content": "x"}]},
            400,
            "messages[0].role",
            "invalid_value",
        ),
        ({"messages": [{"role": "", "content": "x"}]}, 400, "messages[0].role", "invalid_value"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            400,
            "messages[0].content[0]",
            "unsupported_value",
        ),
        ({"temperature": 3}, 400, "temperature", "invalid_value"),
        ({"temperature": "hot"}, 400, "temperature", "invalid_type"),
        ({"max_tokens": 5000}, 400, "max_tokens", "context_length_exceeded"),
        (
            {"messages": [{"role": "user", "content": "x" * 3000}]},
            400,
            "messages",
            "context_length_exceeded",
        ),
        ({"logprobs": True, "top_logprobs": 21}, 400, "top_logprobs", "invalid_value"),
        ({"top_logprobs": 1}, 400, "top_logprobs", "invalid_value"),
        ({"n": 0}, 400, "n", "invalid_value"),
        ({"stop": ["a"] * 5}, 400, "stop", "invalid_value"),
    ],
)
def test_bad_requests(server, stream, change, status, param, code):
    """Each is a plain HTTP error, streaming or not, and the next good request works."""
    body = {"messages": HI, "stream": stream, **change}

    check_error(server.post(CHAT, **body), status, param, code)
    assert server.chat(max_tokens=1).status_code == 200


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"prompt": []}, "prompt", "invalid_value"),
        ({"prompt": [263]}, "prompt", "invalid_value"),
        ({"prompt": [-1]}, "prompt", "invalid_value"),
        ({"prompt": ["a", 1]}, "prompt", "invalid_type"),
        ({"prompt": {"a": 1}}, "prompt", "invalid_type"),
        ({}, "prompt", "missing_required_parameter"),
        ({"prompt": "a", "logprobs": 6}, "logprobs", "invalid_value"),
        ({"prompt": "a", "max_tokens": -1}, "max_tokens", "invalid_value"),
        ({"prompt": "a", "stream_options": {}}, "stream_options", "invalid_value"),
        ({"prompt": ["a"] * 1000, "n": 2}, "n", "invalid_value"),
    ],
)
def test_bad_completions(server, change, param, code):
    check_error(server.post(TEXT, **change), 400, param, code)
    assert server.post(TEXT, prompt="hi").status_code == 200


def test_bodies_that_are_not_requests(server):
    def send(
        body: bytes, content_type: str = "application/json", encoding: str = ""
    ) -> httpx.Response:
        headers = {"content-type": content_type}
        if encoding:
            headers["content-encoding"] = encoding
        return server.http.post(CHAT, content=body, headers=headers)

    for body in (b"", b"{", b'{"model": ', b"\xff"):
        check_error(send(body), 400, None, "invalid_json")
    for body in (b"[]", b"3", b'"x"', b"null"):
        check_error(send(body), 400, None, "invalid_type")
    good = json.dumps({"model": MODEL, "messages": HI, "max_tokens": 1}).encode()
    check_error(send(good, "text/plain"), 415, None, "unsupported_media_type")
    check_error(
        send(good, "application/x-www-form-urlencoded"), 415, None, "unsupported_media_type"
    )
    check_error(send(good, encoding="gzip"), 415, None, "unsupported_content_encoding")
    check_error(send(good, encoding="deflate, br"), 415, None, "unsupported_content_encoding")
    assert send(good, encoding="identity").status_code == 200
    check_error(send(b'"' + b"x" * 100_000 + b'"'), 413, None, "request_too_large")
    assert send(good, "application/json; charset=utf-8").status_code == 200
    assert send(good, "Application/JSON").status_code == 200


def test_body_too_large_without_a_length(server):
    """Sent in chunks, so that the size shows only while reading."""
    response = server.http.post(
        CHAT,
        content=(b" " * 30_000 for _ in range(5)),
        headers={"content-type": "application/json"},
    )

    check_error(response, 413, None, "request_too_large")


def test_unknown_paths_and_wrong_methods(server):
    for path in ("/", "/v1", "/v1/rerank", "/schema", "/v1/chat/completions/x"):
        check_error(server.http.get(path), 404, None, "unknown_url")
    for method, path, allow in (
        ("GET", CHAT, "POST"),
        ("PUT", TEXT, "POST"),
        ("DELETE", f"/v1/models/{MODEL}", "GET"),
        ("POST", "/health", "GET"),
    ):
        response = server.http.request(method, path)
        check_error(response, 405, None, "method_not_allowed")
        assert allow in response.headers["allow"]


def test_unknown_fields_do_no_harm(server):
    assert server.chat(max_tokens=1, other=5, extra={"a": 1}).status_code == 200


def test_request_ids(server):
    def reply_to(request_id: str) -> str:
        response = server.http.get("/health/live", headers={"x-request-id": request_id})
        return response.headers["x-request-id"]

    assert reply_to("my-id_1.2") == "my-id_1.2"
    for bad in ("", "a b", "a" * 129, "a;b"):
        assert re.fullmatch(r"req_[0-9a-f]{32}", reply_to(bad))


def test_exceptions_of_the_official_client(server, client):
    with pytest.raises(openai.NotFoundError) as not_found:
        client.chat.completions.create(model="other", messages=HI)
    assert not_found.value.code == "model_not_found"
    assert not_found.value.param == "model"
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model=MODEL, messages=HI, top_p=2)
    assert bad.value.param == "top_p"
    assert bad.value.type == "invalid_request_error"
    assert bad.value.request_id


def test_many_streams_on_one_connection(server):
    """The end of a stream leaves the connection fit for the next request."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.connect()
    first_socket = connection.sock
    body = json.dumps({"model": MODEL, "messages": HI, "max_tokens": 5, "stream": True})
    for _ in range(50):
        connection.request("POST", CHAT, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        assert len(parse_events(response.read().decode())) >= 3
        assert connection.sock is first_socket
    connection.close()


def test_concurrent_streams_do_not_mix(server):
    """Forty prompts at once say what each says alone."""
    prompts = [f"{'x' * index}" for index in range(40)]

    def stream(prompt: str) -> str:
        return text_of(server.chunks(TEXT, prompt=prompt, max_tokens=100))

    alone = [stream(prompt) for prompt in prompts]
    with ThreadPoolExecutor(20) as pool:
        together = list(pool.map(stream, prompts))

    assert together == alone


def test_metrics_equal_usage(server):
    """Counters are exactly the sum of what the responses said."""
    names = ("prompt_tokens_total", "generation_tokens_total")
    before = [server.metric(name) for name in names]
    stops = server.metric('request_success_total{finished_reason="stop"}')
    first_tokens = server.metric("time_to_first_token_seconds_count")
    later_tokens = server.metric("inter_token_latency_seconds_count")
    usages = [
        server.chat(max_tokens=7).json()["usage"],
        server.chat(n=2, max_tokens=150, stop="fox").json()["usage"],
        server.post(TEXT, prompt=["a", "bc"], max_tokens=3, n=2).json()["usage"],
        server.post(TEXT, prompt="abc", max_tokens=0, echo=True).json()["usage"],
        server.chunks(CHAT, messages=HI, max_tokens=50, stream_options={"include_usage": True})[-1][
            "usage"
        ],
    ]

    after = [server.metric(name) for name in names]
    assert after[0] - before[0] == sum(usage["prompt_tokens"] for usage in usages)
    assert after[1] - before[1] == sum(usage["completion_tokens"] for usage in usages)
    assert server.metric('request_success_total{finished_reason="stop"}') == stops + 2
    assert server.metric("time_to_first_token_seconds_count") == first_tokens + 4
    num_choices = 1 + 2 + 4 + 1  # those that have tokens: each but the first ends a gap
    gaps = sum(usage["completion_tokens"] for usage in usages) - num_choices
    assert server.metric("inter_token_latency_seconds_count") == later_tokens + gaps
    assert server.metric("engine_generation_tokens_total") >= after[1]


def test_metrics_of_http(server):
    server.http.get("/nowhere")
    text = server.http.get("/metrics")

    assert re.fullmatch(r"text/plain; version=[0-9.]+; charset=utf-8", text.headers["content-type"])
    assert server.metric('http_requests_total{endpoint="unknown",status="404"}') >= 1
    assert server.metric('time_to_first_token_seconds_bucket{le="0.001"}') >= 0


def test_health(server):
    assert server.http.get("/health/live").json() == {"status": "ok"}
    assert server.http.get("/health/ready").json() == {"status": "ok", "reason": ""}
    health = server.health()
    assert health["status"] == "ok"
    assert health["state"] == "ready"
    assert health["model"] == MODEL
    assert health["engine"]["engine"] in ("scripted", "tensorrt_llm")
    assert health["limits"]["max_model_len"] == 2048


def is_idle(server: RunningServer) -> bool:
    health = server.health()
    return health["num_requests_in_flight"] == 0 and health["stats"]["num_running"] == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_place(slow_server, stream):
    """The answer would take ten minutes; the place is free again at once."""
    aborted = slow_server.metric("requests_aborted_total")
    body = {"messages": HI, "max_tokens": 30_000, "stream": stream}
    with slow_server.connect() as connection:
        connection.sendall(raw_request(CHAT, body))
        if stream:
            assert b"200 OK" in connection.recv(1000)
        wait_for(lambda: slow_server.health()["stats"]["num_running"] == 1)

    wait_for(lambda: is_idle(slow_server))
    assert slow_server.metric("requests_aborted_total") == aborted + 1
    assert slow_server.chat(max_tokens=1).status_code == 200


def test_a_client_that_leaves_in_the_middle_of_its_request(server):
    """It is nobody's error but its own."""
    name = f'http_requests_total{{endpoint="{CHAT}",status="400"}}'
    assert server.chat(n=0).status_code == 400
    before = server.metric(name)
    with server.connect() as connection:
        connection.sendall(raw_request(CHAT, {"messages": HI})[:-5])
        wait_for(lambda: server.http.get("/health/live").status_code == 200)

    wait_for(lambda: server.metric(name) == before + 1)


def test_a_client_that_leaves_the_queue(slow_server):
    body = {"messages": HI, "max_tokens": 30_000}
    with slow_server.connect() as running:
        running.sendall(raw_request(CHAT, body))
        wait_for(lambda: slow_server.health()["stats"]["num_running"] == 1)
        with slow_server.connect() as waiting:
            waiting.sendall(raw_request(CHAT, body))
            wait_for(lambda: slow_server.health()["stats"]["num_waiting"] == 1)
        wait_for(lambda: slow_server.health()["stats"]["num_waiting"] == 0)
    wait_for(lambda: is_idle(slow_server))


def test_a_full_queue_refuses(slow_server):
    """With a status, a code and a time to come back, streaming or not."""
    body = {"messages": HI, "max_tokens": 30_000, "stream": True}
    rejected = slow_server.metric('requests_rejected_total{reason="engine_overloaded"}')
    with slow_server.connect() as first, slow_server.connect() as second:
        for connection in (first, second):
            connection.sendall(raw_request(CHAT, body))
        wait_for(lambda: slow_server.health()["num_requests_in_flight"] == 2)

        for stream in (False, True):
            response = slow_server.chat(max_tokens=1, stream=stream)
            check_error(response, 429, None, "engine_overloaded")
            assert 1 <= int(response.headers["retry-after"]) <= 120
            assert 1 <= int(response.headers["retry-after-ms"]) <= 120_000
        with strict_client(slow_server) as client, pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model=MODEL, messages=HI)
        assert caught.value.code == "engine_overloaded"
    wait_for(lambda: is_idle(slow_server))
    assert slow_server.metric('requests_rejected_total{reason="engine_overloaded"}') == rejected + 3


def test_first_chunk_comes_before_the_last_token(slow_server):
    """A stream streams: its first text is here while most of it has not been made."""
    started = time.monotonic()
    with slow_server.http.stream(
        "POST", CHAT, json={"model": MODEL, "messages": HI, "max_tokens": 50, "stream": True}
    ) as response:
        pieces = response.iter_text()
        next(pieces)
        first = time.monotonic() - started
        for _ in pieces:
            pass
    assert first < (time.monotonic() - started) / 2


def test_silence_is_filled_with_comments():
    """Also before the first token, where the headers go out with the first comment."""
    settings = scripted_settings(server=ServerSettings(keep_alive_interval=0.05), step_ms=200)
    with running_server(settings) as server:
        response = server.chat(max_tokens=3, stream=True)

    assert response.status_code == 200
    events = response.text.split("\n\n")
    assert events[0] == ": keep-alive"
    assert events.count(": keep-alive") >= 4
    assert len(text_of(parse_events(response.text))) == 3


def test_until_the_model_is_loaded():
    """Liveness at once; everything else says when to come back."""
    settings = scripted_settings(load_ms=60_000)
    with running_server(settings, wait_until_ready=False) as server:
        assert server.http.get("/health/live").status_code == 200
        for path in ("/health/ready", "/health"):
            response = server.http.get(path)
            assert response.status_code == 503
            assert int(response.headers["retry-after"]) >= 1
        response = server.chat()
        check_error(response, 503, None, "engine_unavailable")
        assert int(response.headers["retry-after"]) >= 1
        assert int(response.headers["retry-after-ms"]) >= 1
        assert server.post(TEXT, prompt="a").status_code == 503
        assert server.http.get("/v1/models").status_code == 200
        assert server.metric("engine_ready") == 0
        with strict_client(server) as client, pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(model=MODEL, messages=HI)
        assert caught.value.status_code == 503


def test_an_engine_that_dies_for_good():
    """A running stream ends with an error event, a waiting answer with a 500, the next with 503."""
    settings = scripted_settings(engine={"max_restarts": 0}, step_ms=20)
    others = set(psutil.Process().children())
    with running_server(settings) as server, ThreadPoolExecutor(2) as pool:
        (engine,) = set(psutil.Process().children()) - others
        whole = pool.submit(server.chat, max_tokens=30_000)
        stream = pool.submit(server.chat, max_tokens=30_000, stream=True)
        wait_for(lambda: server.health()["stats"]["num_running"] == 2)
        wait_for(lambda: server.metric("time_to_first_token_seconds_count") == 2)
        engine.kill()

        check_error(whole.result(), 500, None, "engine_error")
        events = parse_events(stream.result().text)
        assert events[-1]["error"]["code"] == "engine_error"
        check_error(server.chat(), 503, None, "engine_unavailable")
        assert server.http.get("/health").status_code == 503
        assert server.http.get("/health/live").status_code == 200
