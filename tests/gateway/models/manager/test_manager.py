"""Loading, evicting and unloading models, in virtual time."""

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway.models.manager.manager import ModelManager
from gateway.models.manager.slot import Slot
from runtime.errors import DeadlineExceeded, EngineOverloaded, EngineUnavailable
from tests.kit.managed import manager, runner_of, slot, spec
from tests.kit.virtual_time import run_virtually

Scene = Callable[[], Coroutine[Any, Any, None]]


def now() -> float:
    return asyncio.get_running_loop().time()


def in_virtual_time(scene: Scene) -> Callable[[], None]:
    def test() -> None:
        run_virtually(scene())

    test.__name__, test.__doc__ = scene.__name__, scene.__doc__
    return test


async def use(models: ModelManager, name: str, seconds: float = 1.0) -> None:
    lease = await models.acquire(name, now() + 600)
    assert lease.is_loaded
    await asyncio.sleep(seconds)
    lease.release()


def loaded(slots: list[Slot]) -> set[str]:
    return {each.name for each in slots if each.phase == "loaded"}


def three(limit_gb: float | None = 2.0, **loading: Any) -> tuple[list[Slot], ModelManager]:
    slots = [slot(spec(name)) for name in "abc"]
    return slots, manager(slots, limit_gb=limit_gb, **loading)


@in_virtual_time
async def test_only_what_is_wanted_is_loaded() -> None:
    slots = [slot(spec("a", load="start")), slot(spec("b")), slot(spec("c", load="never"))]
    models = manager(slots)
    await models.start()
    assert [report.state for report in models.states().values()] == [
        "loading",
        "unloaded",
        "unloaded",
    ]
    started = now()
    await asyncio.gather(*(use(models, "b", 0) for _ in range(4)))
    assert now() - started == pytest.approx(5.0)
    assert runner_of(slots[1]).num_starts == 1
    with pytest.raises(EngineUnavailable, match="an admin has to load it"):
        await models.acquire("c")
    models.load("c")
    await use(models, "c")
    assert loaded(slots) == {"a", "b", "c"}


@in_virtual_time
async def test_the_least_recently_used_makes_room() -> None:
    slots, models = three()
    await models.start()
    for name in ("a", "b", "a"):
        await use(models, name)
    await use(models, "c")
    assert loaded(slots) == {"a", "c"}
    await use(models, "b")
    assert loaded(slots) == {"b", "c"}
    assert [report.num_loads for report in models.states().values()] == [1, 2, 1]


@in_virtual_time
async def test_who_is_held_stays_and_who_waits_gets_its_turn() -> None:
    """A model that is never idle gives its place away, and comes back."""
    slots, models = three(1.0)
    await models.start()

    async def keep_busy() -> None:
        for _ in range(30):
            await use(models, "a", 3.0)

    async def join_later() -> None:
        await asyncio.sleep(1.5)
        await keep_busy()

    busy = [asyncio.create_task(keep_busy()), asyncio.create_task(join_later())]
    await asyncio.sleep(20)
    started = now()
    await use(models, "b")
    assert 10 < now() - started < 30
    await asyncio.gather(*busy)
    assert loaded(slots) == {"a"}


@in_virtual_time
async def test_a_load_that_fails_is_not_tried_again_at_once() -> None:
    slots, models = three()
    await models.start()
    runner = runner_of(slots[0])
    runner.failure = "The file is damaged."
    for _ in range(3):
        with pytest.raises(EngineUnavailable, match=r"`a` could not be loaded; the server's log"):
            await models.acquire("a")
    assert runner.num_starts == 1
    assert models.report("a").state == "failed"
    assert models.report("a").reason == "The file is damaged."
    await asyncio.sleep(30)
    runner.failure = ""
    await use(models, "a")
    assert loaded(slots) == {"a"}
    assert slots[0].failure == ""


@in_virtual_time
async def test_an_admin_may_try_a_failed_model_at_once() -> None:
    slots, models = three()
    await models.start()
    runner = runner_of(slots[0])
    runner.failure = "No."
    with pytest.raises(EngineUnavailable):
        await models.acquire("a")
    runner.failure = ""
    models.restart("a")
    await use(models, "a")
    models.restart("a")
    assert runner.num_restarts == 1


@in_virtual_time
async def test_who_waits_has_a_deadline_and_there_is_no_endless_queue() -> None:
    slots, models = three(1.0)
    await models.start()
    held = await models.acquire("a")
    waiting = [asyncio.create_task(models.acquire("b", now() + 3)) for _ in range(5)]
    await asyncio.sleep(1)
    with pytest.raises(EngineOverloaded, match="5 requests wait"):
        await models.acquire("b")
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(each, DeadlineExceeded) for each in results)
    assert "models in use: a" in str(results[0])
    await asyncio.sleep(2)
    assert models.report("b").state == "unloaded", "nobody wants it any more"
    assert loaded(slots) == {"a"}, "and nothing was unloaded for it"
    held.release()


@in_virtual_time
async def test_a_model_that_fits_never_is_refused_with_a_reason() -> None:
    slots = [slot(spec("a", memory_gb=3.0)), slot(spec("b"))]
    models = manager(slots, limit_gb=2.0)
    await models.start()
    await use(models, "b")
    with pytest.raises(EngineUnavailable, match="`a` could not be loaded"):
        await models.acquire("a")
    reason = models.report("a").reason
    assert reason.startswith("It needs 3.00 GB, and loading.max_memory_gb is 2 GB.")
    await use(models, "b")


@in_virtual_time
async def test_an_idle_model_is_unloaded() -> None:
    slots = [slot(spec("a", idle_seconds=60.0)), slot(spec("b"))]
    models = manager(slots)
    await models.start()
    await use(models, "a")
    await asyncio.sleep(50)
    await use(models, "a", 30)
    await asyncio.sleep(59)
    assert loaded(slots) == {"a"}
    await asyncio.sleep(2)
    assert models.report("a").state == "unloaded"
    await use(models, "a")
    assert models.report("a").num_loads == 2


@in_virtual_time
async def test_an_admin_unloads_with_patience_or_without() -> None:
    _slots, models = three()
    await models.start()
    lease = await models.acquire("a")
    unloading = models.unload("a")
    await asyncio.sleep(5)
    assert models.report("a").state == "draining"
    newcomer = asyncio.create_task(models.acquire("a"))
    await asyncio.sleep(1)
    assert not newcomer.done()
    lease.release()
    await unloading
    assert (await newcomer).is_loaded, "it comes back for who asks for it"
    await models.unload("a", force=True)
    assert models.report("a").state == "unloaded"


@in_virtual_time
async def test_an_admin_unloads_what_still_loads() -> None:
    slots, models = three(1.0)
    await models.start()
    loading = asyncio.create_task(models.acquire("a"))
    await asyncio.sleep(1)
    queued = asyncio.create_task(models.acquire("b"))
    await asyncio.sleep(1)
    await models.unload("b")
    with pytest.raises(EngineUnavailable, match="`b` was unloaded"):
        await queued
    await models.unload("a")
    with pytest.raises(EngineUnavailable, match="`a` was unloaded"):
        await loading
    assert {report.state for report in models.states().values()} == {"unloaded"}
    assert not any(runner_of(each).is_running for each in slots)
    await use(models, "a")


@in_virtual_time
async def test_a_server_that_ends_loads_for_requests_alone() -> None:
    slots = [slot(spec(name)) for name in "abc"]
    ending: list[bool] = []
    models = manager(slots, limit_gb=1.0, is_ending=lambda: bool(ending))
    await models.start()
    held = await models.acquire("a")
    models.load("b")
    waiting = asyncio.create_task(models.acquire("c", now() + 60))
    await asyncio.sleep(1)
    ending.append(True)
    await asyncio.sleep(2)
    held.release()
    (await waiting).release()
    assert models.report("b").state == "unloaded"
    assert runner_of(slots[1]).num_starts == 0


@in_virtual_time
async def test_the_end_ends_everything() -> None:
    slots, models = three(1.0)
    await models.start()
    held = await models.acquire("a")
    waiting = asyncio.create_task(models.acquire("b", math.inf))
    await asyncio.sleep(1)
    await models.stop()
    with pytest.raises(EngineUnavailable, match="The server has stopped"):
        await waiting
    with pytest.raises(EngineUnavailable, match="The server has stopped"):
        await models.acquire("c")
    held.release()
    models.abandon()
    assert not any(runner_of(each).is_running for each in slots)
    assert all(runner_of(each).is_abandoned for each in slots)


@in_virtual_time
async def test_estimates_that_were_too_low() -> None:
    """Who turns out to be larger takes the place of who is idle, at once or when it is idle."""
    slots = [slot(spec(name, memory_gb="auto"), pid=pid) for pid, name in enumerate("abc", 1)]
    models = manager(slots, limit_gb=3.0, measured={1: 1.0, 2: 2.5, 3: 4.0})
    await models.start()
    held = await models.acquire("a")
    await use(models, "b")
    assert loaded(slots) == {"a", "b"}, "both are held when the larger one is measured"
    held.release()
    await asyncio.sleep(1)
    assert len(loaded(slots)) == 1
    with pytest.raises(EngineUnavailable, match="`c` could not be loaded"):
        await models.acquire("c")
    assert "needs 4.00 GB" in models.report("c").reason
    assert models.report("c").memory_bytes == 4_000_000_000
    await use(models, "a")
