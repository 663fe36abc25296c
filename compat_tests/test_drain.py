"""Draining: nothing new, what runs is finished, and the process ends well."""

import signal
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.drain import PAUSE_RETRY_SECONDS, Drain
from runtime.processes import is_alive
from tests.kit.chat.answers import CHAT
from tests.kit.command_line import posix, served
from tests.kit.serving import parse_events, text_of_chunks, wait_for


@posix
@pytest.mark.parametrize("how", ["signal", "request"])
def test_what_runs_is_finished_and_nothing_new_begins(tmp_path: Path, how: str):
    with served(tmp_path) as server:
        children = psutil.Process(server.process.pid).children(recursive=True)
        with server.http.stream("POST", CHAT, json=server.body(60)) as answer:
            lines = answer.iter_text()
            text = next(lines)
            if how == "signal":
                server.process.send_signal(signal.SIGTERM)
            else:
                assert server.http.post("/admin/drain").json()["status"] == "draining"
            wait_for(lambda: not server.is_ready())
            refused = server.http.post(CHAT, json=server.body(5))
            health = server.http.get("/health")
            state = server.http.get("/admin/drain").json()
            resumed = server.http.post("/admin/resume")
            text += "".join(lines)
        code, log = server.ended()
    usage = parse_events(text)[-1]["usage"]
    assert usage["completion_tokens"] == 60
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "server_draining"
    assert 1 <= int(refused.headers["retry-after"]) <= 120
    assert refused.headers["connection"] == "close"
    assert (health.status_code, health.json()["status"]) == (503, "draining")
    assert state == {"status": "draining", "exit": True, "num_running": 1}
    assert resumed.status_code == 409
    assert code == 0, log
    assert "server_drains" in log
    assert children
    wait_for(lambda: not any(map(is_alive, children)))


@posix
def test_what_takes_too_long_is_cut_off_with_an_error(tmp_path: Path):
    with served(tmp_path, "--set", "server.drain_timeout=0.3") as server:
        with server.http.stream("POST", CHAT, json=server.body(2000)) as answer:
            lines = answer.iter_text()
            text = next(lines)
            server.process.send_signal(signal.SIGTERM)
            text += "".join(lines)
        code, log = server.ended()
    chunks = parse_events(text)
    assert text_of_chunks(chunks[:-1])
    assert "server.drain_timeout" in chunks[-1]["error"]["message"]
    assert code == 0, log


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(tmp_path: Path, number: int):
    with served(tmp_path) as server:
        children = psutil.Process(server.process.pid).children(recursive=True)
        with server.http.stream("POST", CHAT, json=server.body(2000)) as answer:
            next(answer.iter_text())
            server.process.send_signal(number)
            wait_for(lambda: not server.is_ready())
            server.process.send_signal(number)
            code, _ = server.ended()
    assert code == 0
    wait_for(lambda: not any(map(is_alive, children)))


def test_a_drain_without_exit_can_be_taken_back(tmp_path: Path):
    with served(tmp_path, step_ms=0) as server:
        assert server.http.post("/admin/drain", json={"exit": False}).json()["exit"] is False
        refused = server.http.post(CHAT, json=server.body(5))
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert server.http.post("/admin/drain", json={"exits": 1}).status_code == 400
        assert server.http.post("/admin/resume").json()["status"] == "serving"
        assert server.is_ready()
        assert server.http.post(CHAT, json=server.body(5)).status_code == 200


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_second_order_does_not_give_more_time():
    clock = Clock()
    drain = Drain(10, clock)
    drain.begin(exits=False)
    assert (drain.is_over, drain.retry_after) == (False, PAUSE_RETRY_SECONDS)
    drain.num_running = 1
    drain.begin(exits=True)
    clock.now = 4
    drain.begin(exits=True)
    assert drain.seconds_left == 6
    assert not drain.is_over
    clock.now = 10
    assert drain.is_late
    assert drain.is_over


@given(st.lists(st.sampled_from(["begin", "exit", "resume", "enter", "leave", "wait"])))
def test_a_server_ends_only_when_told_and_never_with_requests_that_have_time(steps):
    clock = Clock()
    drain = Drain(3, clock)
    for step in steps:
        match step:
            case "begin" | "exit":
                drain.begin(exits=step == "exit")
            case "resume":
                assert drain.resume() is ("exit" not in steps or not drain.exits)
            case "enter" if not drain.is_draining:
                drain.num_running += 1
            case "leave" if drain.num_running:
                drain.num_running -= 1
            case "wait":
                clock.now += 1
        assert drain.is_draining or not drain.exits
        assert not drain.is_over or drain.exits
        if drain.is_over and drain.num_running:
            assert drain.seconds_left == 0
            assert drain.is_late
