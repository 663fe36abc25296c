"""Answers that come before the body does: the connection stays in step."""

import json
import socket
from collections.abc import Iterator

import pytest

from gateway.settings.schema import ServerSettings
from tests.kit.chat.answers import CHAT, HI
from tests.kit.raw_http import (
    PARSERS,
    answer_to,
    chunked,
    head,
    read_all,
    responses,
    running_server_on,
)
from tests.kit.serving import MODEL, RunningServer, scripted_settings

BODY = json.dumps({"model": MODEL, "messages": HI, "max_tokens": 3}).encode()
EXPECTS = "Expect: 100-continue"
JSON = "Content-Type: application/json"
NEXT = head("GET /v1/models HTTP/1.1", "Host: x", "Connection: close")
LIMIT = 10_000


@pytest.fixture(scope="module", params=PARSERS)
def server(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    limits = ServerSettings(max_body_bytes=LIMIT, header_timeout=0.5)
    with running_server_on(request.param, scripted_settings(server=limits)) as running:
        yield running


REFUSED = [
    (f"POST {CHAT}", ("Host: evil.example", JSON), 403),
    (f"POST {CHAT}", ("Host: x", JSON, "Origin: http://evil.example"), 403),
    (f"POST {CHAT}", ("Host: x", "Content-Type: text/plain"), 415),
    (f"POST {CHAT}", ("Host: x", JSON, "Content-Encoding: gzip"), 415),
    ("POST /nothing", ("Host: x",), 404),
    ("POST /v1/models", ("Host: x",), 405),
    ("PUT /v1/models", ("Host: x",), 405),
    ("POST *", ("Host: x",), 400),
    ("GET /v1/models", ("Host: x",), 200),
]


@pytest.mark.parametrize(("line", "headers", "status"), REFUSED)
@pytest.mark.parametrize("framing", [f"Content-Length: {len(BODY)}", "Transfer-Encoding: chunked"])
def test_a_client_that_waits_for_its_turn_learns_that_the_connection_ends(
    server: RunningServer, line: str, headers: tuple[str, ...], status: int, framing: str
):
    ((answer, _),) = responses(
        answer_to(server, head(f"{line} HTTP/1.1", *headers, framing, EXPECTS))
    )
    assert (answer.status, answer.getheader("connection")) == (status, "close")


def test_a_body_that_is_too_large_is_not_asked_for(server: RunningServer):
    length = f"Content-Length: {LIMIT + 1}"
    start = head(f"POST {CHAT} HTTP/1.1", "Host: x", JSON, length, EXPECTS)
    ((answer, _),) = responses(answer_to(server, start))
    assert (answer.status, answer.getheader("connection")) == (413, "close")


@pytest.mark.parametrize("chunks", [False, True])
def test_a_client_that_does_not_wait_keeps_its_connection(server: RunningServer, chunks: bool):
    framing = "Transfer-Encoding: chunked" if chunks else f"Content-Length: {len(BODY)}"
    body = chunked(BODY, 9) if chunks else BODY
    sent = head("POST /nothing HTTP/1.1", "Host: x", framing, EXPECTS) + body
    answers = responses(answer_to(server, sent + NEXT))
    assert [answer.status for answer, _ in answers] == [404, 200]


def test_a_body_that_is_wanted_is_asked_for_and_the_connection_stays(server: RunningServer):
    length = f"Content-Length: {len(BODY)}"
    with server.connect() as client:
        for _ in range(2):
            client.sendall(head(f"POST {CHAT} HTTP/1.1", "Host: x", JSON, length, EXPECTS))
            assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.sendall(BODY)
            received = b""
            while b"completion_tokens" not in received:
                received += client.recv(65_536)
            assert b" 200 OK" in received
            assert b"connection: close" not in received


@pytest.mark.parametrize("expects", ["Expect: 100-continue", "Expect: 100-Continue"])
def test_a_request_without_a_body_waits_for_nothing(server: RunningServer, expects: str):
    start = head("GET /v1/models HTTP/1.1", "Host: x", expects)
    answers = responses(answer_to(server, start + NEXT))
    assert [answer.status for answer, _ in answers] == [200, 200]


def test_http_1_0_knows_no_turns(server: RunningServer):
    """What comes before the answer would be the answer."""
    length = f"Content-Length: {len(BODY)}"
    sent = head(f"POST {CHAT} HTTP/1.0", JSON, length, EXPECTS) + BODY
    assert answer_to(server, sent).startswith(b"HTTP/1.1 200 OK")


def test_a_client_that_sends_its_body_all_the_same_can_read_the_answer(server: RunningServer):
    """Its machine would drop the answer, were the connection closed while data is on its way."""
    length = "Content-Length: 1_000_000".replace("_", "")
    start = head("POST /nothing HTTP/1.1", "Host: x", length, EXPECTS)
    with server.connect() as client:
        client.sendall(start)
        client.recv(1, socket.MSG_PEEK)
        for _ in range(10):
            client.sendall(b"x" * 100_000)
        ((answer, _),) = responses(read_all(client))
    assert (answer.status, answer.getheader("connection")) == (404, "close")
    assert server.http.get("/health/live").status_code == 200


def test_what_follows_is_not_taken_for_a_request(server: RunningServer):
    start = head("POST /nothing HTTP/1.1", "Host: x", "Content-Length: 5", EXPECTS)
    with server.connect() as client:
        client.sendall(start)
        client.recv(1, socket.MSG_PEEK)
        client.sendall(b"hello" + NEXT)
        assert len(responses(read_all(client))) == 1


def test_a_body_that_stops_after_its_answer_gets_no_second_one(server: RunningServer):
    start = head("POST /nothing HTTP/1.1", "Host: x", "Content-Length: 100000")
    with server.connect() as client:
        client.sendall(start)
        client.recv(1, socket.MSG_PEEK)
        client.sendall(b"x" * 1000)
        assert [answer.status for answer, _ in responses(read_all(client))] == [404]
