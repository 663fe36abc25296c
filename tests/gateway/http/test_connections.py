"""Clients that are slow or send too much, against a real server."""

import json
import socket
from collections.abc import Iterator

import pytest

from gateway.http.connections.limits import MAX_HEADERS
from gateway.settings.schema import ServerSettings
from tests.kit.chat.answers import CHAT, HI
from tests.kit.raw_http import PARSERS, answer_to, read_all, running_server_on
from tests.kit.serving import RunningServer, raw_request, scripted_settings, wait_for

STRICT = ServerSettings(
    header_timeout=0.6, body_timeout=0.6, write_timeout=0.6, max_header_bytes=4096
)
START = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module", params=PARSERS)
def strict(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    """With either of uvicorn's parsers."""
    with running_server_on(request.param, scripted_settings(server=STRICT)) as server:
        yield server


def code_of(response: bytes) -> tuple[int, str]:
    head, _, body = response.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(body)["error"]["code"]


def test_a_connection_that_says_nothing_is_closed(strict: RunningServer):
    assert answer_to(strict) == b""


@pytest.mark.parametrize("part", [b"G", START, START + b"x-a: b\r\n"])
def test_headers_that_never_end(strict: RunningServer, part: bytes):
    assert code_of(answer_to(strict, part)) == (408, "header_timeout")


def test_headers_that_never_end_after_a_request_that_was_answered(strict: RunningServer):
    with strict.connect() as client:
        client.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        first = b""
        while not first.endswith(b'{"status":"ok"}'):
            first += client.recv(4096)
        client.sendall(b"GET /health")
        assert code_of(read_all(client)) == (408, "header_timeout")


def test_a_slow_answer_is_not_slow_headers(strict: RunningServer):
    """The clock of the headers stops when they are there."""
    with strict.connect() as client:
        client.sendall(raw_request(CHAT, {"messages": HI, "max_tokens": 5}, "Connection: close"))
        assert b" 200 OK" in read_all(client)


def test_a_body_that_trickles_in(strict: RunningServer):
    head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
    response = answer_to(strict, f'{head}\r\n{{"model":'.encode())
    assert code_of(response) == (408, "body_timeout")


def test_headers_that_are_too_many(strict: RunningServer):
    rest = b"a:\r\n" * (MAX_HEADERS - 2)
    taken = answer_to(strict, START + b"connection: close\r\n" + rest + b"\r\n")
    refused = answer_to(strict, START + rest + b"a:\r\n" * 2 + b"\r\n")
    assert taken.startswith(b"HTTP/1.1 200 ")
    assert code_of(refused) == (431, "headers_too_large")


@pytest.mark.parametrize("size", [5000, 200_000])
@pytest.mark.parametrize("ends", [False, True])
def test_headers_that_are_too_large(
    strict: RunningServer, request: pytest.FixtureRequest, size: int, ends: bool
):
    if ends and request.node.callspec.params["strict"] == "h11":
        pytest.skip("h11 takes headers that are complete in one read, 256 kB at most")
    filler = b"x-a: " + b"b" * size + (b"\r\n\r\n" if ends else b"")
    with strict.connect() as client:
        client.sendall(START + filler)
        try:
            status, code = code_of(read_all(client))
        except ConnectionResetError:
            return  # the server closed while data was still on its way
    # h11 does not say what was wrong
    assert (status, code) in {(431, "headers_too_large"), (400, "invalid_http")}
    assert strict.http.get("/health/live").status_code == 200


def test_a_line_that_is_too_long(strict: RunningServer):
    status, _ = code_of(answer_to(strict, b"GET /" + b"a" * 5000))
    assert status in (400, 431)


def test_what_is_not_http(strict: RunningServer):
    assert code_of(answer_to(strict, b"\x16\x03\x01\x02\x00\x01\r\n\r\n")) == (400, "invalid_http")


def test_a_client_that_does_not_read_is_cut_off(strict: RunningServer):
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", strict.port))
        echo = {"prompt": "x" * 1_000_000, "n": 9, "max_tokens": 0, "echo": True}
        client.sendall(raw_request("/v1/completions", echo))
        is_over = False

        def cut_off() -> bool:
            nonlocal is_over
            try:
                client.sendall(b"x")
            except (BrokenPipeError, ConnectionResetError):
                is_over = True
            return is_over

        wait_for(cut_off)
    assert strict.http.get("/health/live").status_code == 200


def test_requests_sent_far_ahead_are_refused(strict: RunningServer):
    """A server that takes them all in would work on nothing else."""
    get = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
    with strict.connect() as client:
        client.sendall(get * 10)
        answers = b""
        while answers.count(b"200 OK") < 10:
            answers += client.recv(65_536)
    with strict.connect() as client:
        client.sendall(get * 2000)
        assert client.recv(65_536).startswith((b"HTTP/1.1 400", b"HTTP/1.1 200"))
    assert strict.http.get("/health/live").status_code == 200
