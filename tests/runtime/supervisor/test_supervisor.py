"""A real engine process behind a real socket, on the scripted engine."""

import os
import signal

import anyio
import psutil
import pytest

from runtime.client.engine_client import EngineClient
from runtime.errors import (
    EngineCrashed,
    EngineError,
    EngineOverloaded,
    EngineUnavailable,
    InvalidRequest,
)
from runtime.supervisor.supervisor import Supervisor
from tests.kit.models.tiny_model import write_tiny_model
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


async def test_a_request_travels_to_the_engine_and_back():
    async with running() as supervisor:
        stream = supervisor.client.submit([request()])

        assert await text_of(stream) == TEXT
        assert supervisor.client.num_in_flight == 0


async def test_before_the_engine_is_ready_requests_are_refused():
    supervisor = Supervisor(config(scripted={"load_ms": 60_000}), "", EngineClient())
    await supervisor.start()
    try:
        with pytest.raises(EngineUnavailable) as raised:
            supervisor.client.submit([request()])
        assert raised.value.retry_after > 0
    finally:
        await supervisor.stop()


async def test_many_requests_at_once_each_get_their_own_text():
    async with running(max_num_seqs=8) as supervisor:
        streams = [
            supervisor.client.submit(
                [request(str(number), max_tokens=200, prompt_token_ids=[number])]
            )
            for number in range(26)
        ]

        texts = [await text_of(stream) for stream in streams]

    assert texts == [(TEXT * 10)[number : number + 200] for number in range(26)]


async def test_a_closed_stream_frees_its_place():
    async with running(max_num_seqs=1, scripted={"step_ms": 1}) as supervisor:
        stream = supervisor.client.submit([request("first", max_tokens=1_000_000)])
        await anext(stream)

        stream.close()

        assert await text_of(supervisor.client.submit([request("second")])) == TEXT
        await until(lambda: supervisor.client.stats.num_running == 0)


async def test_a_full_queue_refuses_with_a_time_to_come_back():
    async with running(max_num_seqs=1, max_num_waiting=1, scripted={"step_ms": 5}) as supervisor:
        streams = [supervisor.client.submit([request(str(n), max_tokens=1000)]) for n in range(2)]

        with pytest.raises(EngineOverloaded) as raised:
            supervisor.client.submit([request("late")])
        with pytest.raises(InvalidRequest, match="at most 2"):
            supervisor.client.submit([request(f"many-{n}") for n in range(3)])

        assert 0 < raised.value.retry_after <= 120
        for stream in streams:
            stream.close()
        assert await text_of(supervisor.client.submit([request("next")])) == TEXT


async def test_a_killed_engine_comes_back_and_the_stream_goes_on():
    """The client sees a pause: nothing is missing, nothing comes twice."""
    async with running(scripted={"step_ms": 2}) as supervisor:
        stream = supervisor.client.submit([request(max_tokens=300)])
        text = "".join(output.text for output in await anext(stream))

        [process] = engine_processes()
        process.send_signal(signal.SIGKILL)

        assert text + await text_of(stream) == (TEXT * 12)[:300]
        assert supervisor.client.num_restarts == 1


async def test_a_request_sent_to_a_dead_engine_is_answered_by_the_next():
    """Nobody has noticed the death yet: the request is taken and not lost."""
    async with running() as supervisor:
        [process] = engine_processes()
        process.send_signal(signal.SIGKILL)
        psutil.wait_procs([process], timeout=10)
        assert supervisor.client.state == "ready"

        assert await text_of(supervisor.client.submit([request()])) == TEXT


@pytest.mark.slow
async def test_a_hung_engine_is_replaced():
    async with running(heartbeat_timeout=1.5, scripted={"step_ms": 2}) as supervisor:
        stream = supervisor.client.submit([request(max_tokens=300)])
        text = "".join(output.text for output in await anext(stream))

        [process] = engine_processes()
        process.send_signal(signal.SIGSTOP)

        assert text + await text_of(stream) == (TEXT * 12)[:300]


async def test_after_too_many_deaths_everything_in_flight_fails():
    async with running(max_restarts=0, scripted={"step_ms": 2}) as supervisor:
        stream = supervisor.client.submit([request(max_tokens=1000)])
        await anext(stream)

        [process] = engine_processes()
        process.send_signal(signal.SIGKILL)

        with pytest.raises(EngineError, match="signal 9"):
            await text_of(stream)
        assert supervisor.client.state == "failed"
        with pytest.raises(EngineUnavailable):
            supervisor.client.submit([request("next")])


POISON = {"poison": "Z", "step_ms": 2}


@pytest.mark.parametrize("after", [0, pytest.param(30, marks=pytest.mark.slow)])
async def test_a_request_that_kills_the_engine_is_given_up_and_the_others_go_on(after: int):
    """And it is found whether it kills at its first token or in the middle of its answer."""
    scripted = {**POISON, "poison_after": after}
    async with running(max_restarts=2, restart_window=3600.0, scripted=scripted) as supervisor:
        streams = [
            supervisor.client.submit([request(str(n), max_tokens=400, prompt_token_ids=[n])])
            for n in range(6)
        ]
        first = ["".join(output.text for output in await anext(stream)) for stream in streams]
        bad = supervisor.client.submit(
            [request("bad", max_tokens=400, prompt_token_ids=[ord("Z")])]
        )

        with pytest.raises(EngineCrashed, match=r"given up.*signal 6"):
            await text_of(bad)

        texts = [
            begin + await text_of(stream) for begin, stream in zip(first, streams, strict=True)
        ]
        assert texts == [(TEXT * 17)[number : number + 400] for number in range(6)]
        assert supervisor.client.num_restarts >= 2
        assert not supervisor.client.is_searching


@pytest.mark.slow
async def test_a_lone_request_that_kills_the_engine_is_given_up_at_the_second_death():
    async with running(scripted=POISON) as supervisor:
        with pytest.raises(EngineCrashed):
            await text_of(
                supervisor.client.submit(
                    [request("bad", max_tokens=5, prompt_token_ids=[ord("Z")])]
                )
            )

        await until(lambda: supervisor.client.state == "ready")
        assert supervisor.client.num_restarts == 2
        assert await text_of(supervisor.client.submit([request()])) == TEXT


@pytest.mark.slow
async def test_choices_of_one_answer_are_given_up_together():
    async with running(scripted=POISON) as supervisor:
        bad = [
            request(f"bad-{choice}", max_tokens=5, prompt_token_ids=[ord("Z")])
            for choice in range(3)
        ]

        with pytest.raises(EngineCrashed):
            await text_of(supervisor.client.submit(bad))

        assert supervisor.client.num_in_flight == 0
        await until(lambda: supervisor.client.state == "ready")
        assert not supervisor.client.is_searching


@pytest.mark.slow
async def test_who_waits_for_a_place_is_not_suspected():
    """One place, taken by the guilty one: the others were never worked on."""
    async with running(max_num_seqs=1, scripted=POISON) as supervisor:
        bad = supervisor.client.submit([request("bad", max_tokens=5, prompt_token_ids=[ord("Z")])])
        waiting = [supervisor.client.submit([request(str(n))]) for n in range(5)]

        with pytest.raises(EngineCrashed):
            await text_of(bad)
        assert [await text_of(stream) for stream in waiting] == [TEXT] * 5
        assert supervisor.client.num_restarts == 2


@pytest.mark.slow
async def test_a_request_that_comes_during_the_search_waits_for_its_end():
    async with running(scripted={**POISON, "step_ms": 150}) as supervisor:  # a while to come in
        bad = supervisor.client.submit([request("bad", max_tokens=5, prompt_token_ids=[ord("Z")])])
        await until(
            lambda: supervisor.client.num_restarts == 1 and supervisor.client.state == "ready"
        )
        assert supervisor.client.is_searching
        late = supervisor.client.submit([request("late")])

        with pytest.raises(EngineCrashed):
            await text_of(bad)
        assert await text_of(late) == TEXT


async def test_a_given_up_engine_comes_back_by_itself():
    async with running(max_restarts=0, failed_retry_interval=0.2) as supervisor:
        [process] = engine_processes()
        process.send_signal(signal.SIGKILL)
        await until(lambda: supervisor.client.state == "failed")
        assert "Another start is tried every 0.2 seconds" in supervisor.client.state_reason

        await until(lambda: supervisor.client.state == "ready")
        assert supervisor.client.num_restarts == 1
        assert await text_of(supervisor.client.submit([request()])) == TEXT


async def test_an_engine_that_could_not_load_is_tried_again(tmp_path):
    """It stays given up until one has loaded."""
    model = tmp_path / "model.gguf"
    model.write_bytes(b"not a model")
    states = set()
    supervisor = Supervisor(config(failed_retry_interval=0.05), os.fspath(model), EngineClient())
    await supervisor.start()
    try:
        with anyio.fail_after(20):
            while supervisor.client.num_deaths < 3:
                states.add(supervisor.client.state)
                await anyio.sleep(0.01)
        assert states == {"starting", "failed"}
        write_tiny_model(model)
        await until(lambda: supervisor.client.state == "ready")
    finally:
        await supervisor.stop()


@pytest.mark.parametrize("interval", [0.0, 3600.0])
async def test_a_given_up_engine_comes_back_when_somebody_restarts_it(interval: float):
    """Whether another try would have come or not."""
    async with running(max_restarts=0, failed_retry_interval=interval) as supervisor:
        [process] = engine_processes()
        process.send_signal(signal.SIGKILL)
        await until(lambda: supervisor.client.state == "failed")

        supervisor.restart()

        assert supervisor.client.state == "starting"
        await until(lambda: supervisor.client.state == "ready")
        assert await text_of(supervisor.client.submit([request()])) == TEXT


@pytest.mark.slow
async def test_a_restart_while_the_next_try_loads():
    settings = {"max_restarts": 0, "failed_retry_interval": 0.05, "scripted": {"load_ms": 500}}
    async with running(**settings) as supervisor:
        [process] = engine_processes()
        process.send_signal(signal.SIGKILL)
        await until(lambda: supervisor.client.state == "failed" and engine_processes() != [])

        supervisor.restart()

        await until(lambda: supervisor.client.state == "ready")
        assert len(engine_processes()) == 1


async def test_a_restart_on_demand_loses_nothing_and_counts_for_nothing():
    async with running(max_restarts=0, scripted={"step_ms": 2}) as supervisor:
        stream = supervisor.client.submit([request(max_tokens=300)])
        text = "".join(output.text for output in await anext(stream))

        for _ in range(2):
            [process] = engine_processes()
            supervisor.restart()
            await until_next_engine(supervisor, process)
            assert not supervisor.client.is_searching
            text += "".join(output.text for output in await anext(stream))

        assert text + await text_of(stream) == (TEXT * 12)[:300]
        assert supervisor.client.num_deaths == 0


@pytest.mark.slow
async def test_a_restart_does_not_wait_for_the_pause_after_a_death():
    async with running(max_restarts=9) as supervisor:
        for _ in range(4):
            [process] = engine_processes()
            process.send_signal(signal.SIGKILL)
            await until(lambda: supervisor.client.state == "restarting")
            supervisor.restart()
            await until_next_engine(supervisor, process)

        assert supervisor.client.num_deaths == 4


async def test_an_engine_that_cannot_load_fails_at_once_and_says_why(tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"not a model")
    supervisor = Supervisor(config(), os.fspath(broken), EngineClient())
    await supervisor.start()
    try:
        await until(lambda: supervisor.client.state != "starting")
        assert supervisor.client.state == "failed"
        assert "broken.gguf" in supervisor.client.state_reason
        assert supervisor.client.num_restarts == 0
    finally:
        await supervisor.stop()


async def test_a_machine_that_cannot_start_the_engine_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", os.fspath(tmp_path / "missing"))
    supervisor = Supervisor(config(max_restarts=0), "", EngineClient())
    await supervisor.start()
    try:
        await until(lambda: supervisor.client.state != "starting")
        assert supervisor.client.state == "failed"
        assert "cannot be started" in supervisor.client.state_reason
    finally:
        await supervisor.stop()
