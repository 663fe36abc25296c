"""Bodies that cost a server more than the client that sends them, over real HTTP."""

from collections.abc import Iterator

import pytest

from gateway.settings.schema import ServerSettings
from tests.kit.chat.answers import CHAT
from tests.kit.serving import (
    MODEL,
    RunningServer,
    raw_request,
    running_server,
    scripted_settings,
    wait_for,
)

COMPLETIONS = "/v1/completions"
LARGE = 150_000


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    limits = ServerSettings(max_body_bytes=9_000_000, max_bodies_bytes=9_000_000)
    engine = {"max_model_len": 100_000}
    with running_server(scripted_settings(server=limits, engine=engine)) as running:
        yield running


@pytest.fixture
def narrow() -> Iterator[RunningServer]:
    limits = ServerSettings(max_body_bytes=200_000, max_bodies_bytes=200_000)
    engine = {"max_model_len": 200_000}
    with running_server(scripted_settings(server=limits, engine=engine)) as running:
        yield running


@pytest.mark.parametrize(
    "path", [CHAT, COMPLETIONS, "/v1/responses", "/v1/embeddings", "/generate"]
)
@pytest.mark.parametrize(
    ("value", "setting"),
    [(["a"] * 200_000, "max_body_values"), ([1] * 1_100_000, "max_body_entries")],
)
def test_too_many_values_are_refused(
    server: RunningServer, path: str, value: list[object], setting: str
):
    response = server.post(path, input=value)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["code"] == "request_too_large"
    assert f"(server.{setting})" in error["message"]


def test_a_history_of_ten_thousand_messages_is_served(server: RunningServer):
    part = [{"type": "text", "text": "a"}]
    history = [{"role": "user", "content": part}] * 10_000
    response = server.post("/tokenize", messages=history)
    assert response.status_code == 200


def test_a_text_that_cannot_fit_is_not_tokenized(server: RunningServer):
    response = server.post(COMPLETIONS, prompt="?" * 1_000_000, max_tokens=1)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "prompt")
    assert "at least" in error["message"]


def test_a_body_past_the_memory_of_all_is_refused_before_it_is_read(narrow: RunningServer):
    whole = raw_request(COMPLETIONS, {"prompt": "a" * LARGE, "max_tokens": 1}, "Connection: close")
    with narrow.connect() as first, narrow.connect() as second:
        first.sendall(whole[:-1])
        wait_for(lambda: narrow.metric("body_memory_bytes") > LARGE)
        second.sendall(whole.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
        answer = second.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 1\r\n" in answer
        assert b"gateway_overloaded" in answer
        assert narrow.chat(max_tokens=1).status_code == 200
        first.sendall(whole[-1:])
        assert first.recv(65_536).startswith(b"HTTP/1.1 200")
    wait_for(lambda: narrow.metric("body_memory_bytes") == 0)
    assert narrow.metric("bodies_refused_total") == 1


def test_a_client_that_leaves_in_the_middle_gives_its_memory_back(narrow: RunningServer):
    with narrow.connect() as client:
        client.sendall(raw_request(COMPLETIONS, {"prompt": "a" * LARGE})[:-1])
        wait_for(lambda: narrow.metric("body_memory_bytes") > LARGE)
    wait_for(lambda: narrow.metric("body_memory_bytes") == 0)
    whole = narrow.post(COMPLETIONS, prompt="a" * LARGE, max_tokens=1)
    assert whole.status_code == 200  # there is room for one, and only for one


def test_a_body_in_chunks_counts_as_it_arrives(narrow: RunningServer):
    def chunks() -> Iterator[bytes]:
        yield b'{"model":"%b","max_tokens":1,"prompt":"' % MODEL.encode()
        for _ in range(15):
            yield b"a" * 10_000
        yield b'"}'

    headers = {"content-type": "application/json"}
    response = narrow.http.post(COMPLETIONS, content=chunks(), headers=headers)
    assert response.status_code == 200
    assert narrow.metric("body_memory_bytes") == 0


def test_an_echo_that_is_long_and_wanted_often(server: RunningServer):
    echo = {"prompt": "a" * 90_000, "max_tokens": 0, "echo": True}
    assert server.post(COMPLETIONS, **echo, n=100).status_code == 200
    with_more = server.post(COMPLETIONS, **{**echo, "prompt": ["a" * 90_000] * 2}, n=100)
    assert with_more.status_code == 400
    assert with_more.json()["error"]["param"] == "echo"
