"""Models and chat completions over real HTTP, on each engine."""

import time

import openai
import pytest

from tests.gateway.api.harness import without_identity
from tests.kit.chat.answers import CHAT, HI, TEXT
from tests.kit.serving import MODEL, text_of_chunks


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

        assert text_of_chunks(chunks) == whole["choices"][0]["message"]["content"]
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
        assert text_of_chunks(chunks, index) == answer["choices"][index]["message"]["content"]


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
        assert text_of_chunks(chunks) == expected
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
