"""Bodies in chunks of a byte, which a parser takes apart one by one."""

import json
import socket
from collections.abc import Iterator

import pytest

from tests.kit.chat.answers import CHAT, HI
from tests.kit.raw_http import PARSERS, chunked, head, read_all, responses, running_server_on
from tests.kit.serving import MODEL, RunningServer, scripted_settings

HEAD = head(
    f"POST {CHAT} HTTP/1.1",
    "host: x",
    "content-type: application/json",
    "transfer-encoding: chunked",
)
GET = head("GET /v1/models HTTP/1.1", "host: x", "connection: close")


@pytest.fixture(scope="module", params=PARSERS)
def server(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    with running_server_on(request.param, scripted_settings()) as running:
        yield running


def chat(num_spaces: int) -> bytes:
    return (
        json.dumps({"model": MODEL, "messages": HI, "max_tokens": 3}).encode() + b" " * num_spaces
    )


@pytest.mark.parametrize("ends", [False, True])
def test_all_of_the_body_comes(server: RunningServer, ends: bool) -> None:
    """Also if the client has ended its side of the connection, and if a second request follows in
    the same read."""
    last = GET if not ends else b""
    with server.connect() as client:
        client.sendall(HEAD + chunked(chat(20_000), 1) + last)
        if ends:
            client.shutdown(socket.SHUT_WR)
        statuses = [response.status for response, _ in responses(read_all(client))]
    assert statuses == [200] * (1 if ends else 2)


def test_no_chunks_hold_the_loop(server: RunningServer) -> None:
    with server.connect() as client:
        client.sendall(HEAD + chunked(chat(300_000), 1) + GET)
        assert [response.status for response, _ in responses(read_all(client))] == [200, 200]
    assert server.metric("event_loop_work_seconds") < 0.05
