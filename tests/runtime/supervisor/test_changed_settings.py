"""An engine is replaced by one with other settings, if that one can load."""

import psutil
import pytest

from runtime.supervisor.restart_budget import FIRST_PAUSE_SECONDS, RestartBudget
from runtime.supervisor.supervisor import Supervisor
from tests.kit.supervised import (
    TEXT,
    config,
    engine_processes,
    request,
    running,
    text_of,
    until,
    until_next_engine,
)

pytestmark = pytest.mark.anyio


def max_model_len(supervisor: Supervisor) -> int | None:
    limits = supervisor.client.limits
    return limits.max_model_len if limits else None


async def test_the_next_engine_has_the_new_settings_and_requests_go_on():
    async with running(max_model_len=100, scripted={"step_ms": 10}) as supervisor:
        stream = supervisor.client.submit([request(max_tokens=26)])
        await anext(stream)
        [process] = engine_processes()
        supervisor.restart_with(config(max_model_len=200, scripted={"step_ms": 1}))
        text = await text_of(stream)
        assert TEXT.endswith(text)
        assert len(text) > 1
        await until_next_engine(supervisor, process)
        assert max_model_len(supervisor) == 200


async def test_settings_that_wait_come_with_the_engine_after_a_death():
    async with running(max_model_len=100) as supervisor:
        supervisor.use(config(max_model_len=200))
        assert max_model_len(supervisor) == 100
        [process] = engine_processes()
        process.kill()
        await until_next_engine(supervisor, process)
        assert max_model_len(supervisor) == 200


async def test_settings_that_no_engine_can_load_with_are_given_up():
    reasons: list[str] = []
    async with running(max_model_len=100) as supervisor:
        supervisor.on_refused = reasons.append
        [process] = engine_processes()
        hangs = config(max_model_len=200, start_timeout=0.2, scripted={"load_ms": 600_000})
        supervisor.restart_with(hangs)
        await until(lambda: bool(reasons))
        await until_next_engine(supervisor, process)
        assert max_model_len(supervisor) == 100
        assert await text_of(supervisor.client.submit([request()])) == TEXT
        supervisor.restart_with(config(max_model_len=300))
        await until(lambda: max_model_len(supervisor) == 300)
        assert len(reasons) == 1


async def test_a_second_change_while_the_first_loads_keeps_the_way_back():
    async with running(max_model_len=100) as supervisor:
        [process] = engine_processes()
        hangs = {"start_timeout": 0.2, "scripted": {"load_ms": 600_000}}
        supervisor.restart_with(config(max_model_len=200, **hangs))
        await until(lambda: supervisor.client.state == "restarting")
        supervisor.restart_with(config(max_model_len=300, **hangs))
        await until_next_engine(supervisor, process)
        assert max_model_len(supervisor) == 100


async def test_what_is_about_restarts_holds_at_once():
    async with running(max_restarts=5) as supervisor:
        supervisor.use(config(max_restarts=0, failed_retry_interval=0.0))
        for process in engine_processes():
            process.kill()
            psutil.wait_procs([process])
        await until(lambda: supervisor.client.state == "failed")


@pytest.mark.parametrize("window", [1.0, 100.0])
def test_a_budget_can_change(window: float):
    budget = RestartBudget(1, 10.0)
    assert budget.death(0.0) == FIRST_PAUSE_SECONDS
    budget.window = window
    assert (budget.death(5.0) is None) == (window > 5)
