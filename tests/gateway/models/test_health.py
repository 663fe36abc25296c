"""One word for how the server is, and the reasons for it."""

import time

import psutil
import pytest

from gateway.models.health import RECENT_SECONDS, STALL_SECONDS, problems_of, progress_of, state_of
from runtime.client.engine_client import EngineClient
from runtime.messages.engine import EngineStats
from runtime.messages.request import RequestOutput
from runtime.messages.wire import StepOutput
from tests.kit.engines import READY, a_request
from tests.kit.platform import IS_WINDOWS
from tests.kit.serving import running_server, scripted_settings, wait_for


@pytest.fixture
def client() -> EngineClient:
    client = EngineClient()
    client.connected(lambda _: None, READY)
    return client


def submit(client: EngineClient, number: int) -> None:
    client.submit([a_request(str(number))])


def describe(client: EngineClient, now: float | None = None, pressure: str = "") -> tuple[str, str]:
    problems = problems_of(client, pressure, time.monotonic() if now is None else now)
    return state_of(client, True, problems), " ".join(problems)


def test_a_server_without_problems_is_ready(client):
    assert describe(client) == ("ready", "")
    assert state_of(client, False, []) == "starting"
    assert describe(EngineClient()) == ("starting", "")


def test_an_engine_that_is_not_there_is_the_state_whatever_else_is(client):
    client.count_death(time.monotonic())
    client.lost("restarting", "It died.")
    assert describe(client, pressure="Full.")[0] == "restarting"
    client.lost("failed", "It died.")
    assert describe(client)[0] == "failed"


def test_a_death_counts_for_five_minutes(client):
    client.count_death(1000.0)

    assert describe(client, 1000.0 + RECENT_SECONDS - 1)[0] == "degraded"
    assert describe(client, 1000.0 + RECENT_SECONDS + 1) == ("ready", "")


def test_a_queue_that_is_nearly_full_is_a_problem(client):
    for number in range(8):
        submit(client, number)
    assert describe(client)[0] == "ready"

    submit(client, 8)

    assert describe(client) == ("degraded", "9 of 10 places are taken.")


def test_the_guard_of_the_memory_speaks_for_itself(client):
    assert describe(client, pressure="Memory is short.") == ("degraded", "Memory is short.")


def test_an_engine_with_work_that_finishes_no_step_is_a_problem(client):
    later = client.last_step_time + STALL_SECONDS + 1
    assert describe(client, later)[0] == "ready"  # with nothing to do there is no step to finish

    submit(client, 1)

    assert "no step" in describe(client, later)[1]


def test_a_search_is_a_problem(client):
    submit(client, 1)
    client.lost("restarting", "It died.", ["1"])
    client.connected(lambda _: None, READY)

    assert "searched for" in describe(client)[1]


def test_progress_counts_the_tokens_of_this_engine(client):
    submit(client, 1)
    client.receive(StepOutput([RequestOutput("1", [5, 6], "ab")], EngineStats(num_running=1)))

    progress = progress_of(client, client.last_step_time + 2)

    assert (progress.num_tokens, progress.num_running) == (2, 1)
    assert progress.seconds_since_step == 2
    client.lost("restarting", "It died.")
    client.connected(lambda _: None, READY)
    assert progress_of(client, time.monotonic()).num_tokens == 0


def kill_engine() -> None:
    [engine] = [
        child for child in psutil.Process().children() if "runtime.worker" in child.cmdline()
    ]
    engine.kill()


def test_a_server_whose_engine_died_says_so_and_serves_on():
    with running_server(scripted_settings()) as server:
        assert server.health()["state"] == "ready"
        kill_engine()
        wait_for(lambda: server.health()["progress"]["num_deaths"] == 1)
        wait_for(lambda: server.health()["status"] == "ok")

        health = server.health()
        assert health["state"] == "degraded"
        assert "restarted" in health["reason"]
        assert server.chat(max_tokens=3).status_code == 200


def test_a_server_whose_engine_is_given_up_stays_and_says_why():
    with running_server(scripted_settings(engine={"max_restarts": 0})) as server:
        kill_engine()
        wait_for(lambda: server.health()["state"] == "failed")

        killed = "ended with status 1" if IS_WINDOWS else "signal 9"
        refused = server.chat(max_tokens=3)
        assert refused.status_code == 503
        assert killed in refused.json()["error"]["message"]
        assert server.http.get("/health").status_code == 503
        assert killed in server.health()["reason"]
        assert server.http.get("/health/live").status_code == 200


@pytest.mark.slow
def test_a_request_that_kills_the_engine_gets_a_500_that_says_so():
    with running_server(scripted_settings(poison="arsenic")) as server:
        refused = server.chat("arsenic", max_tokens=3)

        assert refused.status_code == 500
        assert refused.headers["x-should-retry"] == "false"
        error = refused.json()["error"]
        assert (error["code"], error["type"], error["param"]) == (
            "engine_crashed",
            "server_error",
            None,
        )
        assert "given up" in error["message"]
        wait_for(lambda: server.health()["status"] == "ok")
        assert server.chat(max_tokens=3).status_code == 200
