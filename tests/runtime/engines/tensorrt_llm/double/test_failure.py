"""Sections 5.2 and 6 of the notes: scheduling, statistics, death."""

import asyncio
import sys
import threading
from pathlib import Path

import pytest

from tests.runtime.engines.tensorrt_llm.double.harness import (
    PROMPT,
    WAIT,
    Double,
    Start,
    stream,
    turns,
    until,
)

pytestmark = pytest.mark.anyio


async def test_5_2_room_is_reserved_for_whole_answers(double: Double, start: Start) -> None:
    """With a large `max_tokens` requests run one after another, unless the policy is another."""
    for policy, together in (("GUARANTEED_NO_EVICT", 1), ("MAX_UTILIZATION", 4)):
        llm = start(
            {"kv_tokens": 600},
            enable_iter_perf_stats=True,
            scheduler_config={"capacity_scheduler_policy": policy},
        )
        params = [double.params(max_tokens=500) for _ in range(4)]
        await asyncio.gather(*(llm.generate_async([i], p).aresult() for i, p in enumerate(params)))
        most = max(
            r["inflightBatchingStats"]["numScheduledRequests"] for r in llm.get_stats(timeout=WAIT)
        )
        assert most == together


async def test_6_1_statistics_come_once_and_only_when_asked_for(
    double: Double, start: Start
) -> None:
    assert start().get_stats(timeout=0) == []
    llm = start(enable_iter_perf_stats=True, max_batch_size=8)
    await llm.generate_async(PROMPT, double.params(max_tokens=4))
    records = [record async for record in llm.get_stats_async(timeout=0.01)]
    assert [record["iter"] for record in records] == [1, 2, 3, 4]
    assert records[0]["inflightBatchingStats"]["numCtxTokens"] == len(PROMPT)
    assert records[3]["numCompletedRequests"] == 1
    assert records[0]["kvCacheStats"]["tokensPerBlock"] == 32
    assert llm.get_stats(timeout=0) == []


async def test_6_1_statistics_may_stay_empty(double: Double, start: Start) -> None:
    llm = start({"stats_stay_empty": True}, enable_iter_perf_stats=True)
    await llm.generate_async(PROMPT, double.params(max_tokens=4))
    assert llm.get_stats(timeout=0) == []


async def test_6_1_waiting_for_statistics_may_hold_up_the_loop(
    double: Double, start: Start
) -> None:
    llm = start(enable_iter_perf_stats=True)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    task = asyncio.ensure_future(tick())
    assert [record async for record in llm.get_stats_async(timeout=0.05)] == []
    blocked = ticks == 0
    task.cancel()
    assert blocked == double.fact("stats_block_the_loop")


async def test_6_5_a_dead_worker(double: Double, start: Start) -> None:
    """Nobody who waits is told and health stays good, where the worker is not watched."""
    llm = start({"faults": [{"kind": "worker_dies", "prompt_has": 99, "after": 2}]})
    waiting = asyncio.ensure_future(llm.generate_async([99], double.params()).aresult())
    await until(lambda: llm._executor._dead)
    await turns()
    if double.fact("worker_is_watched"):
        with pytest.raises(RuntimeError, match="died"):
            await waiting
        assert not llm._check_health()
    else:
        assert not waiting.done()
        assert llm._check_health()
        waiting.cancel()
    with pytest.raises(RuntimeError, match="died"):
        llm.generate_async(PROMPT, double.params())
    with pytest.raises(RuntimeError, match="LLM is shutting down"):
        llm.generate_async(PROMPT, double.params())
    assert not llm._check_health()


def test_6_3_shutdown_may_block_after_a_crash(double: Double, start: Start) -> None:
    llm = start()
    executor = llm._executor
    executor.kill_worker()
    executor._host._thread.join(WAIT)
    blocked = threading.Event()
    wait = executor._unblocked.wait
    executor._unblocked.wait = lambda timeout: (blocked.set(), wait(timeout))
    thread = threading.Thread(target=llm.shutdown)
    thread.start()
    if double.fact("shutdown_blocks_after_crash"):
        assert blocked.wait(WAIT)
        assert thread.is_alive()
        executor.unblock()
    thread.join(WAIT)
    assert not thread.is_alive()
    assert blocked.is_set() == double.fact("shutdown_blocks_after_crash")


async def test_6_5_an_error_of_the_engine_waits_for_the_next_submit(
    double: Double, start: Start
) -> None:
    llm = start({"faults": [{"kind": "engine_error", "prompt_has": 99, "message": "lost"}]})
    llm.generate_async([99], double.params(max_tokens=1))
    await until(lambda: bool(llm._executor._errors))
    assert llm._check_health()
    with pytest.raises(RuntimeError, match="lost"):
        llm.generate_async(PROMPT, double.params())
    assert not llm._check_health()


async def test_6_5_a_cuda_error_fails_everything_as_request_errors(
    double: Double, start: Start
) -> None:
    llm = start({"step_ms": 1, "faults": [{"kind": "cuda_error", "prompt_has": 99}]})
    other = llm.generate_async(PROMPT, double.params(max_tokens=500), streaming=True)
    await anext(other)
    text = "CUDA error: an illegal memory access was encountered"
    for result in (llm.generate_async([99], double.params()), other):
        with pytest.raises(double.RequestError, match=text):
            await result
    with pytest.raises(double.RequestError, match=text):
        await llm.generate_async(PROMPT, double.params())
    assert llm._check_health()


async def test_6_5_a_hang_is_not_detected(double: Double, start: Start) -> None:
    llm = start({"faults": [{"kind": "hang", "prompt_has": 99}]})
    result = llm.generate_async([99], double.params())
    hanging = asyncio.ensure_future(result.aresult())
    await until(lambda: llm._executor._host._inbox.empty())
    await turns()
    assert not hanging.done()
    assert llm._check_health()
    llm.shutdown()
    await hanging
    assert result.outputs[0].finish_reason is not None


async def test_a_fault_with_a_fuse_strikes_once(
    double: Double, start: Start, tmp_path: Path
) -> None:
    fault = {"kind": "request_error", "once": str(tmp_path / "burnt")}
    llm = start({"faults": [fault]})
    with pytest.raises(double.RequestError):
        await llm.generate_async(PROMPT, double.params())
    assert (await llm.generate_async(PROMPT, double.params(max_tokens=2))).finished


async def test_a_fault_may_wait_for_a_file(double: Double, start: Start, tmp_path: Path) -> None:
    llm = start({"faults": [{"kind": "request_error", "when": str(tmp_path / "now")}]})
    assert (await llm.generate_async(PROMPT, double.params(max_tokens=2))).finished
    (tmp_path / "now").touch()
    with pytest.raises(double.RequestError):
        await llm.generate_async(PROMPT, double.params())


@pytest.mark.skipif(sys.platform == "win32", reason="the package runs on Linux alone")
async def test_6_4_the_worker_may_be_a_process_that_can_be_killed(
    double: Double, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    if double.release != "1.2":
        pytest.skip("the process is the same in all releases")
    monkeypatch.setenv("TENSORRT_LLM_DOUBLE_WORKER", "process")
    llm = start({"step_ms": 1})
    result = llm.generate_async(PROMPT, double.params(max_tokens=4), streaming=True)
    assert (await stream(result))[-1] == double.answer(PROMPT, 4)
    endless = llm.generate_async(PROMPT, double.params(max_tokens=900), streaming=True)
    await anext(endless)
    llm._executor._host._process.kill()
    await until(lambda: llm._executor._dead)
    assert llm._check_health()
    with pytest.raises(RuntimeError, match="died"):
        llm.generate_async(PROMPT, double.params())


def test_6_4_the_packages_variable_keeps_the_worker_in_this_process(
    double: Double, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENSORRT_LLM_DOUBLE_WORKER", "process")
    monkeypatch.setenv("TLLM_WORKER_USE_SINGLE_PROCESS", "1")
    llm = start()
    assert not hasattr(llm._executor._host, "_process")
