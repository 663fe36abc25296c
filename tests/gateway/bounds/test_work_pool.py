"""The threads for large work."""

import asyncio
import threading

import pytest

from gateway.bounds.work_pool import WorkPool, at_once
from gateway.errors import GatewayOverloaded
from tests.kit.serving import PATIENCE


def test_results_and_errors_come_back():
    async def check() -> None:
        pool = WorkPool()
        assert await pool.run(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await pool.run(divmod, 7, 0)
        assert (pool.num_running, pool.num_waiting) == (0, 0)
        pool.close()

    asyncio.run(check())


def test_small_work_is_done_at_once():
    assert asyncio.run(at_once(threading.get_ident)) == threading.get_ident()


def test_what_waits_is_bounded_and_dropped_with_its_client():
    async def check() -> None:
        pool, gate, done = WorkPool(num_threads=1, max_waiting=2), threading.Event(), []
        running = asyncio.create_task(pool.run(gate.wait, PATIENCE))
        waiting = [asyncio.create_task(pool.run(done.append, number)) for number in range(2)]
        await asyncio.sleep(0)
        assert (pool.num_running, pool.num_waiting) == (1, 2)
        with pytest.raises(GatewayOverloaded):
            await pool.run(done.append, 9)
        waiting[0].cancel()
        await asyncio.wait(waiting[:1])
        assert pool.num_waiting == 1
        gate.set()
        assert await running
        await waiting[1]
        assert (done, pool.num_refused, pool.num_running) == ([1], 1, 0)
        pool.close()

    asyncio.run(check())


def test_a_call_that_runs_keeps_its_thread_when_its_client_leaves():
    async def check() -> None:
        pool, gate, begun = WorkPool(num_threads=1), threading.Event(), threading.Event()

        def work() -> None:
            begun.set()
            gate.wait(PATIENCE)

        running = asyncio.create_task(pool.run(work))
        await asyncio.to_thread(begun.wait, PATIENCE)
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()
        assert pool.num_running == 1
        gate.set()
        assert await pool.run(int, "5") == 5
        assert pool.num_running == 0
        pool.close()

    asyncio.run(check())


def test_freed_memory_is_given_back_once_it_is_quiet(monkeypatch: pytest.MonkeyPatch):
    given = threading.Event()
    monkeypatch.setattr("gateway.bounds.work_pool.IDLE_SECONDS", 0.01)
    monkeypatch.setattr("gateway.bounds.work_pool.give_freed_memory_back", given.set)

    async def check() -> None:
        pool = WorkPool()
        pool.tidy_later()
        pool.tidy_later()
        assert not given.is_set()
        assert await asyncio.to_thread(given.wait, PATIENCE)
        pool.close()
        pool.tidy_later()  # the body of the last request is freed after the end

    asyncio.run(check())
