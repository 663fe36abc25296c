"""Priorities, deadlines and shares of a busy server, over real HTTP."""

import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.kit.chat.answers import CHAT, HI
from tests.kit.serving import (
    RunningServer,
    raw_request,
    running_server,
    scripted_settings,
    wait_for,
)

ONE_PLACE = {"max_num_seqs": 1, "max_model_len": 8192, "preempt_after": 0.05}


@pytest.fixture
def server() -> Iterator[RunningServer]:
    with running_server(scripted_settings(engine=ONE_PLACE, step_ms=2)) as running:
        yield running


class Asked:
    """A request in a thread, its answer and when it was there."""

    def __init__(self, server: RunningServer, **body: object) -> None:
        self.response: httpx.Response | None = None
        self.finished_at = 0.0
        self._thread = threading.Thread(target=self._ask, args=(server, body))
        self._thread.start()

    def _ask(self, server: RunningServer, body: dict[str, object]) -> None:
        self.response = server.chat(**body)  # type: ignore[arg-type]
        self.finished_at = time.monotonic()

    def join(self) -> "Asked":
        self._thread.join()
        assert self.response is not None
        return self


def text_of(asked: Asked) -> str:
    assert asked.response is not None
    assert asked.response.status_code == 200, asked.response.text
    return str(asked.response.json()["choices"][0]["message"]["content"])


def occupy(server: RunningServer):
    """A connection whose request of the default class holds the only place."""
    connection = server.connect()
    body = {"messages": HI, "max_tokens": 5000, "stream": True, "priority": "interactive"}
    connection.sendall(raw_request(CHAT, body))
    wait_for(lambda: server.health()["stats"]["num_running"] == 1)
    return connection


def test_a_deadline_that_comes_is_a_503_that_says_when_to_come_back(server: RunningServer):
    with occupy(server):
        response = server.chat(deadline=time.time() + 0.3, max_tokens=2)

        assert response.status_code == 503
        assert response.json()["error"]["code"] == "deadline_exceeded"
        assert 1 <= int(response.headers["retry-after"]) <= 120
        assert server.metric('requests_rejected_total{reason="deadline_exceeded"}') == 1


def test_a_stream_that_waits_past_its_deadline_is_a_503_too(server: RunningServer):
    with occupy(server):
        response = server.chat(deadline=time.time() + 0.3, max_tokens=2, stream=True)

        assert response.status_code == 503


def test_the_settings_bound_how_long_a_request_waits():
    engine = {**ONE_PLACE, "max_queue_seconds": 0.2}
    with running_server(scripted_settings(engine=engine, step_ms=2)) as server, occupy(server):
        assert server.chat(max_tokens=2).json()["error"]["code"] == "deadline_exceeded"


@pytest.mark.slow
def test_a_higher_class_takes_the_place_and_the_lower_one_loses_no_token(server: RunningServer):
    expected = server.chat(max_tokens=600).json()["choices"][0]["message"]["content"]
    batch = Asked(server, max_tokens=600, priority="batch")
    wait_for(lambda: server.health()["stats"]["num_running"] == 1)

    interactive = Asked(server, max_tokens=5, service_tier="priority").join()
    batch.join()

    assert interactive.finished_at < batch.finished_at
    assert interactive.response is not None
    assert interactive.response.json()["service_tier"] == "priority"
    assert text_of(batch) == expected
    assert server.metric("num_preemptions_total") == 1


def test_a_tenant_with_many_requests_does_not_keep_another_waiting(server: RunningServer):
    with occupy(server):
        greedy = [Asked(server, max_tokens=100, user="greedy") for _ in range(6)]
        wait_for(lambda: server.health()["num_requests_in_flight"] == 7)
        modest = Asked(server, max_tokens=5, user="modest")
        wait_for(lambda: server.health()["num_requests_in_flight"] == 8)

    modest.join()
    ends = sorted(asked.join().finished_at for asked in greedy)
    assert modest.finished_at < ends[1]
