"""Faults of a whole server: its engine dies at bad moments, its clients leave, it is killed."""

import gc
import socket
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
from server import starting_gateway
from server import wait_for as wait_for_reply

from runtime.client.token_stream import TokenStream
from runtime.processes import is_alive
from tests.kit.chat.answers import CHAT, HI
from tests.kit.serving import (
    RunningServer,
    parse_events,
    raw_request,
    running_server,
    scripted_settings,
    text_of_chunks,
    wait_for,
)

NUM_STREAMS = 16
NUM_TOKENS = 60
NUM_LEAVERS = 200


def engine_of(pid: int) -> psutil.Process:
    [engine] = [p for p in psutil.Process(pid).children() if "runtime.worker" in p.cmdline()]
    return engine


def stream(server: RunningServer, kill_after: int | None = None) -> str:
    """The text of a stream; the engine is killed when so many pieces of it have come."""
    body = {"model": "acme/parrot", "messages": HI, "max_tokens": NUM_TOKENS, "stream": True}
    text, num_pieces = "", 0
    with httpx.stream("POST", server.url + CHAT, json=body, timeout=30) as response:
        assert response.status_code == 200
        for piece in response.iter_text():
            num_pieces += 1
            if num_pieces == kill_after:
                engine_of(psutil.Process().pid).kill()
            text += piece
    return text_of_chunks(parse_events(text))


@pytest.mark.slow
@pytest.mark.parametrize("kill_after", [1, NUM_TOKENS // 2, NUM_TOKENS - 1])
def test_a_kill_at_any_token_changes_no_stream(kill_after: int):
    """At the first token, in the middle, and at the last but one."""
    with (
        running_server(scripted_settings(step_ms=15)) as server,
        ThreadPoolExecutor(NUM_STREAMS) as pool,
    ):
        expected = stream(server)
        others = [pool.submit(stream, server) for _ in range(NUM_STREAMS - 1)]
        wait_for(lambda: server.health()["num_requests_in_flight"] == NUM_STREAMS - 1)
        killer = pool.submit(stream, server, kill_after)

        assert {future.result() for future in [killer, *others]} == {expected}
        assert server.health()["progress"]["num_deaths"] == 1


@pytest.mark.slow
def test_a_kill_before_the_first_token_changes_no_answer():
    """Nor one that is asked for while the engine restarts."""
    with running_server(scripted_settings(step_ms=300)) as server, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.chat, max_tokens=2)
        wait_for(lambda: server.health()["num_requests_in_flight"] == 1)
        engine_of(psutil.Process().pid).kill()
        wait_for(lambda: server.health()["state"] == "restarting")

        assert server.chat(max_tokens=1).status_code == 200
        assert answer.result().json()["usage"]["completion_tokens"] == 2
        assert server.health()["progress"]["num_deaths"] == 1


@pytest.mark.slow
def test_a_killed_gateway_takes_its_engine_and_its_files_along(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with starting_gateway({}) as server:
        wait_for_reply(server.port, "/health/ready", 30)
        engine = engine_of(server.pid)
        assert list(tmp_path.glob("lockgate-*/engine.sock"))

        psutil.Process(server.pid).kill()

        wait_for(lambda: not is_alive(engine), timeout=2)
        assert not list(Path(tmp_path).glob("lockgate-*"))


def leave_in_mid_stream(server: RunningServer) -> None:
    with server.connect() as connection:
        body = {"messages": HI, "max_tokens": 30_000, "stream": True}
        connection.sendall(raw_request(CHAT, body))
        received = b""
        while b"data: " not in received:
            received += connection.recv(4096)


def test_clients_that_leave_in_mid_stream_leave_nothing_behind():
    with (
        running_server(scripted_settings(step_ms=1)) as server,
        ThreadPoolExecutor(16) as pool,
    ):
        list(pool.map(leave_in_mid_stream, [server] * NUM_LEAVERS))

        wait_for(lambda: server.health()["num_requests_in_flight"] == 0)
        wait_for(lambda: server.health()["stats"]["num_running"] == 0)
        wait_for(lambda: server.health()["stats"]["kv_cache_usage"] == 0)
        gc.collect()
        wait_for(lambda: not any(type(each) is TokenStream for each in gc.get_objects()))
        assert server.metric("requests_aborted_total") == NUM_LEAVERS


def test_a_client_that_stops_reading_gets_everything_when_it_reads_on():
    """And what waits for it is no more than its answer."""
    num_tokens = 20_000
    with running_server(scripted_settings()) as server, socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.settimeout(20)
        slow.connect(("127.0.0.1", server.port))
        before = psutil.Process().memory_info().rss
        body = {"messages": HI, "max_tokens": num_tokens, "stream": True}
        slow.sendall(raw_request(CHAT, body, "Connection: close"))
        wait_for(lambda: server.health()["progress"]["num_tokens"] >= num_tokens)
        assert psutil.Process().memory_info().rss - before < 50e6

        received = b"".join(iter(lambda: slow.recv(65_536), b""))

        assert received.endswith(b"0\r\n\r\n")
        assert b"data: [DONE]" in received
