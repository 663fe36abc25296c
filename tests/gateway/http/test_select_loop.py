"""More connections than Windows can watch: the server goes on, and says so to who comes late."""

import asyncio
import contextlib
import errno
import json
import socket
from collections.abc import Iterator

import pytest

from gateway.http.connections import limits, select_loop
from gateway.http.connections.select_loop import SelectLoop
from tests.kit.raw_http import PARSERS, read_all, running_server_on
from tests.kit.serving import RunningServer, scripted_settings, wait_for

FEW = 5


@pytest.fixture(params=PARSERS)
def crowded(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RunningServer]:
    """A server that takes `FEW` connections and has them."""
    with running_server_on(request.param, scripted_settings()) as server:
        wait_for(lambda: server.http.get("/health/ready").status_code == 200)
        server.http.close()
        monkeypatch.setattr(limits, "MAX_CONNECTIONS", FEW)
        yield server


def is_served(client: socket.socket) -> bool:
    client.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = b""
    while not answer.endswith(b"}"):
        answer += client.recv(4096)
    return answer.startswith(b"HTTP/1.1 200 OK")


def has_room(server: RunningServer) -> bool:
    with server.connect() as client:
        return is_served(client)


def test_who_comes_late_is_told_and_who_is_there_is_served(crowded: RunningServer):
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(crowded.connect()) for _ in range(FEW)]
        for client in clients:
            assert is_served(client)
        with crowded.connect() as late:
            head, _, body = read_all(late).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 Service Unavailable")
        assert b"\r\nretry-after: 1\r\n" in head
        error = json.loads(body)["error"]
        assert (error["type"], error["code"]) == ("server_error", "too_many_connections")
        assert is_served(clients[0])
        clients[1].close()
        wait_for(lambda: has_room(crowded))


def test_one_socket_too_many_is_refused_and_the_loop_goes_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(select_loop, "MAX_SOCKETS", 10)
    with contextlib.ExitStack() as stack, contextlib.closing(SelectLoop()) as loop:
        pairs = [socket.socketpair() for _ in range(10)]
        for near, far in pairs:
            stack.enter_context(near)
            stack.enter_context(far)
        heard: list[bytes] = []

        *watched, last = pairs  # one socket is the loop's own

        async def watch_all() -> None:
            for near, far in watched:
                loop.add_reader(near, lambda near=near: heard.append(near.recv(1)))
                far.sendall(b"x")
            with pytest.raises(OSError, match="no more sockets") as caught:
                loop.add_reader(last[0], print)
            assert caught.value.errno == errno.EMFILE
            async with asyncio.timeout(10):
                while len(heard) < len(watched):  # noqa: ASYNC110 -- the loop's turns read
                    await asyncio.sleep(0)

        loop.run_until_complete(watch_all())
        for near, _ in watched:
            loop.remove_reader(near)
