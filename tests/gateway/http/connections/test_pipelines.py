"""Requests that a client sends before earlier ones are answered."""

import json
from collections.abc import Iterator

import pytest

from gateway.http.connections.limits import MAX_TARGET_BYTES
from gateway.http.connections.on_httptools import MAX_PIPELINED
from tests.kit.chat.answers import CHAT, HI
from tests.kit.raw_http import PARSERS, answer_to, error_code, head, responses, running_server_on
from tests.kit.serving import MODEL, RunningServer, scripted_settings, wait_for

JSON = "Content-Type: application/json"
GET = head("GET /v1/models HTTP/1.1", "Host: x")
CHUNKED = head(f"POST {CHAT} HTTP/1.1", "Host: x", JSON, "Transfer-Encoding: chunked")
BAD = {
    "no HTTP": (b"garbage\r\n\r\n", 400),
    "a long target": (head(f"GET /{'a' * MAX_TARGET_BYTES} HTTP/1.1", "Host: x"), 414),
    "a broken body": (CHUNKED + b"1\r\na\r\nzz\r\n", 400),
    "no host": (head("GET /v1/models HTTP/1.1"), 400),
}


@pytest.fixture(scope="module", params=PARSERS)
def server(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    with running_server_on(request.param, scripted_settings(step_ms=5)) as running:
        yield running


def chat(max_tokens: int = 20, **fields: object) -> bytes:
    body = {"model": MODEL, "messages": HI, "max_tokens": max_tokens, **fields}
    content = json.dumps(body).encode()
    return (
        head(f"POST {CHAT} HTTP/1.1", "Host: x", JSON, f"Content-Length: {len(content)}") + content
    )


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("num_between", [0, 2])
def test_a_bad_request_is_refused_after_the_answers_to_those_before_it(
    server: RunningServer, bad: str, is_streamed: bool, num_between: int
) -> None:
    sent, status = BAD[bad]
    last = head("GET /v1/models HTTP/1.1", "Host: x", "Connection: close")
    received = answer_to(server, chat(stream=is_streamed) + GET * num_between + sent + last)
    (first, body), *between = responses(received)

    assert first.status == 200
    assert (
        b"[DONE]" in body if is_streamed else json.loads(body)["usage"]["completion_tokens"] == 20
    )
    statuses = [answer.status for answer, _ in between]
    assert statuses[: num_between + 1] == [200] * num_between + [status]


def test_as_many_as_may_wait_are_answered(server: RunningServer) -> None:
    """On httptools the next one is refused after them, and no more is read."""
    with server.connect() as client:
        client.sendall(chat(stream=True) + GET * 2 * MAX_PIPELINED)
        received = b""
        while received.count(b'"object":"list"') < MAX_PIPELINED:
            received += client.recv(65_536)
            assert received, "the connection was closed"
    (first, body), *others = responses(received)
    assert first.status == 200
    assert b"[DONE]" in body
    assert [answer.status for answer, _ in others[:MAX_PIPELINED]] == [200] * MAX_PIPELINED


def test_the_one_that_is_too_many_is_told(server: RunningServer) -> None:
    """On h11, which reads no further than to the next request, none is too many."""
    received = answer_to(server, GET * 2 * MAX_PIPELINED + b"garbage\r\n\r\n")
    *answered, (last, body) = responses(received)
    assert [answer.status for answer, _ in answered][:MAX_PIPELINED] == [200] * MAX_PIPELINED
    assert (last.status, error_code(body)) in ((400, "too_many_pipelined"), (400, "invalid_http"))


def test_who_leaves_frees_the_engine_of_an_answer_with_others_behind_it(
    server: RunningServer,
) -> None:
    before = server.metric("requests_aborted_total")
    with server.connect() as client:
        client.sendall(chat(2000, stream=True) + GET * 3)
        assert b" 200 OK" in client.recv(1000)
    wait_for(lambda: server.metric("requests_aborted_total") == before + 1)
