"""How a held event loop is noticed."""

import asyncio
import time
from collections.abc import Callable

import pytest

from gateway.bounds import loop_lag
from gateway.bounds.loop_lag import LoopLag
from tests.kit.serving import PATIENCE


def hold(seconds: float, clock: Callable[[], float]) -> None:
    """Holds the loop for a time by one of the clocks."""
    end = clock() + seconds
    while clock() < end:
        if clock is time.monotonic:
            time.sleep(0.01)


async def seen(value: Callable[[], bool]) -> None:
    """Returns once it is so."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE
    while not value():
        assert loop.time() < deadline, "it never came"
        await asyncio.sleep(loop_lag.INTERVAL)


def test_work_of_the_loop_and_other_delays_are_told_apart():
    async def check() -> None:
        lag = LoopLag()
        lag.start()
        hold(0.3, time.monotonic)
        await seen(lambda: lag.longest > 0.2)
        assert lag.longest_work < 0.1
        hold(0.3, time.thread_time)
        await seen(lambda: lag.longest_work > 0.2)
        lag.stop()

    asyncio.run(check())


def test_a_long_lag_is_forgotten(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loop_lag, "WINDOW", 0.2)

    async def check() -> None:
        lag = LoopLag()
        lag.start()
        hold(1.0, time.monotonic)
        await seen(lambda: lag.longest > 0.9)
        await seen(lambda: lag.longest < 0.9)
        lag.stop()

    asyncio.run(check())
