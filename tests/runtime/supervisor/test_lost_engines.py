"""Nothing that befalls an engine or its supervisor leaves requests waiting without end."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from runtime.client.engine_client import EngineClient
from runtime.errors import EngineError
from runtime.supervisor import engine_run
from runtime.supervisor.restart_budget import RestartBudget
from runtime.supervisor.supervisor import Supervisor
from tests.kit.root import ROOT
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


async def test_what_nobody_expected_costs_one_engine_and_not_the_server(monkeypatch):
    """The error is thrown while the end of the first engine is looked at."""
    monkeypatch.setattr(engine_run, "read_record", _failing_once(engine_run.read_record))
    async with running() as supervisor:
        [process] = engine_processes()
        process.send_signal(signal.SIGKILL)
        await until_next_engine(supervisor, process)

        assert supervisor.client.num_deaths == 1
        assert await text_of(supervisor.client.submit([request()])) == TEXT


async def test_a_supervisor_that_fails_says_so_and_can_be_started_again(monkeypatch):
    """Otherwise everything in flight would wait without end."""
    monkeypatch.setattr(RestartBudget, "death", _failing_once(RestartBudget.death))
    async with running(scripted={"step_ms": 2}) as supervisor:
        stream = supervisor.client.submit([request(max_tokens=1000)])
        await anext(stream)
        [process] = engine_processes()
        process.send_signal(signal.SIGKILL)

        with pytest.raises(EngineError, match="nobody expected this"):
            await text_of(stream)
        assert supervisor.client.state == "failed"
        supervisor.restart()
        await until(lambda: supervisor.client.state == "ready")


def _failing_once(function: Callable[..., object]) -> Callable[..., object]:
    errors = [RuntimeError("nobody expected this")]

    def fail(*arguments: object, **named: object) -> object:
        if errors:
            raise errors.pop()
        return function(*arguments, **named)

    return fail


async def test_a_death_is_noticed_while_all_threads_of_the_pool_are_busy():
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    supervisor = Supervisor(config(), "", EngineClient())
    await supervisor.start()
    go_on = threading.Event()
    try:
        await until(lambda: supervisor.client.num_restarts == 0 and engine_processes() != [])
        busy = asyncio.create_task(asyncio.to_thread(go_on.wait, 60))
        await until(lambda: supervisor.client.state == "ready")
        [process] = engine_processes()
        process.send_signal(signal.SIGKILL)
        await until_next_engine(supervisor, process)
        assert not busy.done()
    finally:
        go_on.set()
        await supervisor.stop()


MUTE_ENGINE = """
import sys, time, msgspec, zmq
from runtime.config.worker import WorkerConfig
from runtime.messages.wire import Fatal, encode
size = int.from_bytes(sys.stdin.buffer.read(4), "big")
config = msgspec.msgpack.decode(sys.stdin.buffer.read(size), type=WorkerConfig)
socket = zmq.Context.instance().socket(zmq.PAIR)
socket.connect(config.address)
socket.send(encode(Fatal("It cannot go on.")))
time.sleep(600)
"""


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
async def test_an_engine_that_has_said_its_last_word_and_stays_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(engine_run, "LAST_WORDS_SECONDS", 0.1)
    (tmp_path / "engine.py").write_text(MUTE_ENGINE)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tmp_path}/engine.py"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", os.fspath(python))
    monkeypatch.setenv("PYTHONPATH", os.fspath(ROOT))
    supervisor = Supervisor(config(), "", EngineClient())
    await supervisor.start()
    try:
        await until(lambda: supervisor.client.state == "failed")
        assert "It cannot go on." in supervisor.client.state_reason
    finally:
        await supervisor.stop()
