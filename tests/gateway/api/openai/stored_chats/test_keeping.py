"""What of chats is stored, and in which form."""

from typing import Any

import pytest

from gateway.settings.schema import ServerSettings, StoreSettings
from tests.kit.chat.answers import CHAT, HI, error_of, good
from tests.kit.openai.responses import FUNCTION, SENTENCE
from tests.kit.openai.schemas import check_chat
from tests.kit.serving import (
    RunningServer,
    raw_request,
    running_server,
    scripted_settings,
    wait_for,
)

TOOL = {"type": "function", "function": {"name": "f", "parameters": FUNCTION["parameters"]}}
LABELS = {"project": "狐", "": "empty"}


def stored(server: RunningServer, completion_id: str) -> dict[str, Any]:
    return good(server.http.get(f"{CHAT}/{completion_id}"))


def ids(server: RunningServer, **query: Any) -> list[str]:
    answer = good(server.http.get(CHAT, params={"limit": 100, **query}))
    return [each["id"] for each in answer["data"]]


def messages_of(server: RunningServer, completion_id: str) -> list[dict[str, Any]]:
    answer = good(server.http.get(f"{CHAT}/{completion_id}/messages"))
    assert [each.pop("id") for each in answer["data"]] == [
        f"{completion_id}-{place}" for place in range(len(answer["data"]))
    ]
    data: list[dict[str, Any]] = answer["data"]
    return data


FIELDS: list[dict[str, Any]] = [
    {},
    {"n": 3, "max_tokens": 9},
    {"logprobs": True, "top_logprobs": 2, "n": 2, "max_tokens": 9},
    {"stop": "fox"},
    {"service_tier": "flex", "max_tokens": 1},
    {"return_token_ids": True, "max_tokens": 3},
]


def comparable(answer: dict[str, Any]) -> dict[str, Any]:
    """Without what differs between two answers to the same request."""
    for choice in answer["choices"]:
        for call in choice["message"].get("tool_calls", []):
            call["id"] = ""
    answer["usage"]["prompt_tokens_details"]["cached_tokens"] = 0
    return {**answer, "id": "", "created": 0}


@pytest.mark.parametrize("fields", FIELDS)
def test_an_answer_is_stored_as_it_was_sent(server: RunningServer, fields: dict[str, Any]):
    asked = {"messages": HI, "seed": 1, "store": True, "metadata": LABELS, **fields}
    whole = good(server.post(CHAT, **asked))
    chunks = server.chunks(CHAT, **asked)

    kept = stored(server, whole["id"])
    assert kept == {**whole, "metadata": LABELS}
    check_chat(kept)
    streamed = stored(server, chunks[0]["id"])
    assert (streamed["id"], streamed["created"]) == (chunks[0]["id"], chunks[0]["created"])
    assert comparable(streamed) == comparable(kept)


def test_thoughts_and_calls(caller: RunningServer):
    asked = {"messages": HI, "tools": [TOOL], "seed": 1, "store": True}
    whole = good(caller.post(CHAT, **asked))
    streamed = stored(caller, caller.chunks(CHAT, **asked)[0]["id"])

    [choice] = streamed["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["reasoning_content"]
    assert stored(caller, whole["id"]) == {**whole, "metadata": {}}
    assert comparable(streamed) == comparable({**whole, "metadata": {}})
    functions = {"messages": HI, "functions": [TOOL["function"]], "seed": 1, "store": True}
    old = stored(caller, caller.chunks(CHAT, **functions)[0]["id"])
    assert old["choices"][0]["message"]["function_call"]["name"] == "f"


def test_messages_are_those_of_the_request(server: RunningServer):
    parts = [{"type": "text", "text": "一"}, {"type": "text", "text": "two"}]
    function = {"name": "f", "arguments": '{"city": "Oslo"}'}
    call = {"id": "c1", "type": "function", "function": function}
    sent: list[dict[str, Any]] = [
        {"role": "system", "content": "Be short.", "name": "sam"},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "rain", "tool_call_id": "c1"},
        {"role": "assistant", "content": "Rain.", "reasoning_content": "Hm."},
        {"role": "user", "content": "\U0001f98a?"},
    ]
    answer = good(server.post(CHAT, messages=sent, store=True, max_tokens=1))

    empty = {"refusal": None, "name": None, "content_parts": None}
    expected = [{**empty, **message} for message in sent]
    expected[1] |= {"content": None, "content_parts": parts}
    assert messages_of(server, answer["id"]) == expected


@pytest.mark.parametrize("stream", [False, True])
def test_only_what_is_asked_for_is_stored(server: RunningServer, stream: bool):
    before = ids(server, order="desc")
    for fields in ({}, {"store": None}, {"store": False}, {"metadata": {"a": "b"}}):
        assert server.post(CHAT, messages=HI, stream=stream, max_tokens=1, **fields).is_success
    error_of(server.post(CHAT, messages=HI, store=True, stream=stream, temperature=9))
    error_of(server.post(CHAT, messages=HI, store=True, stream=stream, stop_token_ids=[10**9]))
    assert ids(server, order="desc") == before


def test_the_settings_may_store_what_does_not_say(tmp_path_factory: pytest.TempPathFactory):
    path = str(tmp_path_factory.mktemp("store") / "store.db")
    settings = scripted_settings(store=StoreSettings(path=path, chat_completions=True))
    with running_server(settings) as server:
        first = server.chat(max_tokens=1).json()["id"]
        server.chat(max_tokens=1, store=False)
        assert ids(server) == [first]


def test_what_is_not_finished_is_not_stored(tmp_path_factory: pytest.TempPathFactory):
    """Its client leaves, or its time is over; streamed or not."""
    store = StoreSettings(path=str(tmp_path_factory.mktemp("store") / "store.db"))
    limits = ServerSettings(request_timeout=1.0)
    with running_server(
        scripted_settings(store=store, server=limits, text=SENTENCE, step_ms=20)
    ) as server:
        for stream in (True, False):
            server.chat(stream=stream, store=True, max_tokens=20_000)
            body = {"messages": HI, "stream": stream, "store": True, "max_tokens": 20_000}
            with server.connect() as connection:
                connection.sendall(raw_request(CHAT, body))
                wait_for(lambda: server.metric("num_requests_running") == 1)
            wait_for(lambda: server.metric("num_requests_running") == 0)
        assert ids(server) == []


def test_the_messages_of_a_large_request_are_counted_until_it_is_over(
    tmp_path_factory: pytest.TempPathFactory,
):
    store = StoreSettings(path=str(tmp_path_factory.mktemp("store") / "store.db"))
    large = [{"role": "user", "content": "hi", "name": "x" * 100_000}]
    with running_server(scripted_settings(store=store, text=SENTENCE, step_ms=20)) as server:
        for stored in (True, False):
            body = {"messages": large, "stream": True, "store": stored, "max_tokens": 20_000}
            with server.connect() as connection:
                connection.sendall(raw_request(CHAT, body))
                assert b"200" in connection.recv(1000)
                wait_for(lambda: server.metric("num_requests_running") == 1)
                held = server.metric("body_memory_bytes")
                assert held > 100_000 if stored else held == 0
            wait_for(lambda: server.metric("num_requests_running") == 0)
            wait_for(lambda: server.metric("body_memory_bytes") == 0)


def test_a_server_without_a_memory_says_so():
    with running_server(scripted_settings(store=StoreSettings(enabled=False))) as server:
        answer = server.chat(max_tokens=1, store=True, metadata={"a": "b"})
        assert answer.headers["x-ignored-parameters"] == "store"
        assert "x-ignored-parameters" not in server.chat(max_tokens=1, store=False).headers
        one = f"{CHAT}/{answer.json()['id']}"
        for method, path, body in (
            *(("GET", CHAT, None), ("GET", one, None), ("DELETE", one, None)),
            *(("GET", f"{one}/messages", None), ("POST", one, {"metadata": {}})),
        ):
            error = error_of(server.http.request(method, path, json=body), 404)
            assert error["code"] == "completion_not_found"
            assert "stores no chat completions" in error["message"]
