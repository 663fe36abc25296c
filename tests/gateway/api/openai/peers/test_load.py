"""Load and gauges, as users of other servers expect them."""

import socket
import time
from contextlib import ExitStack

import pytest

from tests.kit.chat.answers import CHAT, HI, TEXT
from tests.kit.engines import needs_llama_library
from tests.kit.openai.peers import good
from tests.kit.serving import (
    RunningServer,
    raw_request,
    running_server,
    scripted_settings,
    wait_for,
)

needs_llama_library()


def test_a_dropped_crowd_leaves_the_engine_free():
    """200 long answers whose clients leave; a short one is there soon after."""
    settings = scripted_settings(
        engine={"max_num_seqs": 8, "max_num_waiting": 1000, "max_model_len": 20_000}, step_ms=5
    )
    request = raw_request(CHAT, {"messages": HI, "max_tokens": 10_000})
    with running_server(settings) as slow:
        with ExitStack() as stack:
            crowd: list[socket.socket] = [stack.enter_context(slow.connect()) for _ in range(200)]
            for connection in crowd:
                connection.sendall(request)
            wait_for(lambda: slow.health()["num_requests_in_flight"] == 200)
        started = time.monotonic()
        good(slow, max_tokens=10)
        assert time.monotonic() - started < 5
        wait_for(lambda: slow.health()["num_requests_in_flight"] == 0)


def test_health_answers_while_a_heavy_request_is_prepared(tiny_server: RunningServer):
    """Two million characters to be tokenised, and refused in the end."""
    request = raw_request(TEXT, {"prompt": "the quick brown fox " * 100_000})
    with tiny_server.connect() as connection:
        connection.sendall(request)
        connection.setblocking(False)
        slowest, answered = 0.0, False
        while not answered:
            started = time.monotonic()
            assert tiny_server.http.get("/health/live").status_code == 200
            slowest = max(slowest, time.monotonic() - started)
            try:
                answered = bool(connection.recv(1, socket.MSG_PEEK))
            except BlockingIOError:
                continue
        connection.setblocking(True)
        assert connection.recv(12) == b"HTTP/1.1 400"
    assert slowest < 2


GAUGES = ("num_requests_running", "num_requests_waiting", "num_requests_in_flight")


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
def test_gauges_follow_what_runs_and_waits(stream: bool):
    """And are back at zero soon after the last one has left."""
    settings = scripted_settings(engine={"max_num_seqs": 2, "max_num_waiting": 9}, step_ms=10)
    with running_server(settings) as slow:

        def gauges() -> tuple[float, ...]:
            return tuple(slow.metric(name) for name in GAUGES)

        assert gauges() == (0, 0, 0)
        long, short = ({"messages": HI, "max_tokens": n, "stream": stream} for n in (30_000, 3))
        with ExitStack() as stack:
            clients = [stack.enter_context(slow.connect()) for _ in range(3)]
            for client, choices in zip(clients, (1, 2, 2), strict=True):
                client.sendall(raw_request(CHAT, {**long, "n": choices}))
                wait_for(lambda: slow.metric("num_requests_in_flight") >= 1)
            wait_for(lambda: gauges() == (2, 3, 5))
            name = "num_requests_waiting_by_reason"
            assert slow.metric(f'{name}{{reason="capacity"}}') == slow.metric(name) == 3
            clients.pop().close()
            wait_for(lambda: gauges() == (2, 1, 3))
            left = time.monotonic()
        wait_for(lambda: gauges() == (0, 0, 0))
        assert time.monotonic() - left < 10
        assert slow.post(CHAT, **short).status_code == 200
        wait_for(lambda: gauges() == (0, 0, 0))
