"""Clients that end their sending side: those that still read, and those that are gone."""

import json
import socket
import time
from collections.abc import Iterator

import pytest

from tests.kit.chat.answers import CHAT, HI
from tests.kit.raw_http import PARSERS, head, read_all, responses, running_server_on
from tests.kit.serving import MODEL, RunningServer, raw_request, scripted_settings, wait_for

SOON = 1.0
"""Seconds within which the engine has to be rid of a client that has left."""

told_apart = pytest.mark.posix("a poll that tells who still reads")


@pytest.fixture(scope="module", params=PARSERS)
def server(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    with running_server_on(request.param, scripted_settings(step_ms=20)) as running:
        yield running


def chat(stream: bool, num_tokens: int) -> bytes:
    return raw_request(CHAT, {"messages": HI, "max_tokens": num_tokens, "stream": stream})


def answered(server: RunningServer, *parts: bytes) -> bytes:
    with server.connect() as client:
        for part in parts:
            client.sendall(part)
        client.shutdown(socket.SHUT_WR)
        return read_all(client)


def in_flight(server: RunningServer) -> int:
    number: int = server.health()["num_requests_in_flight"]
    return number


@told_apart
def test_a_whole_answer_arrives(server: RunningServer):
    ((answer, body),) = responses(answered(server, chat(stream=False, num_tokens=20)))
    assert answer.status == 200
    assert json.loads(body)["usage"]["completion_tokens"] == 20


@told_apart
def test_a_stream_arrives(server: RunningServer):
    received = answered(server, chat(stream=True, num_tokens=20))
    assert b"data: [DONE]" in received
    assert received.endswith(b"0\r\n\r\n")


@told_apart
def test_all_that_was_asked_in_a_row_is_answered(server: RunningServer):
    asked = head("GET /v1/models HTTP/1.1", "Host: x")
    received = answered(server, asked, chat(stream=False, num_tokens=5), asked + asked)
    assert [answer.status for answer, _ in responses(received)] == [200] * 4


def test_an_error_arrives(server: RunningServer):
    received = answered(server, raw_request(CHAT, {"messages": "wrong", "model": MODEL}))
    ((answer, _),) = responses(received)
    assert answer.status == 400


@pytest.mark.parametrize("part", [b"", b"GET /v1/mod", chat(stream=True, num_tokens=5)[:-5]])
def test_what_is_no_whole_request_ends_the_connection(server: RunningServer, part: bytes):
    started = time.monotonic()
    assert b" 200 " not in answered(server, part)
    assert time.monotonic() - started < SOON


@told_apart
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("has_half_closed", [False, True])
def test_a_client_that_leaves_is_noticed_soon(
    server: RunningServer, stream: bool, has_half_closed: bool
):
    with server.connect() as client:
        client.sendall(chat(stream=stream, num_tokens=3000))
        wait_for(lambda: in_flight(server) == 1)
        if has_half_closed:
            client.shutdown(socket.SHUT_WR)
            assert client.recv(10)  # the server knows
    wait_for(lambda: in_flight(server) == 0, 6 if has_half_closed else SOON)
