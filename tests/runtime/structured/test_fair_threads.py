"""Threads that are shared out fairly among tenants."""

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from runtime.structured.fair_threads import NUM_THREADS, FairThreads


class Clock(threading.local):
    """Each thread has a time of its own, which passes when it says so."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


CLOCK = Clock()


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[FairThreads]:
    monkeypatch.setattr("runtime.structured.fair_threads.time", CLOCK)
    threads = FairThreads("tests")
    yield threads
    threads.close()


@pytest.fixture
def go(threads: FairThreads) -> Callable[[], None]:
    """All threads are busy until it is called."""
    gate = threading.Event()
    held = threading.Barrier(NUM_THREADS + 1)

    def hold() -> None:
        held.wait()
        gate.wait()

    for _ in range(NUM_THREADS):
        threads.submit(hold)
    held.wait()
    return gate.set


def spend(done: list[str], name: str, seconds: float) -> None:
    CLOCK.now += seconds
    done.append(name)


def test_tenants_take_turns_by_what_they_have_taken(
    threads: FairThreads, go: Callable[[], None]
) -> None:
    done: list[str] = []
    for name, number, seconds in (("dear", 6, 1.0), ("cheap", 20, 0.01)):
        for _ in range(number):
            threads.submit_for(name, partial(spend, done, name, seconds))
    last = threading.Event()
    threads.submit(last.set)
    go()

    assert last.wait(60)
    assert done[: 20 - NUM_THREADS].count("dear") <= NUM_THREADS, "both began with one each"
    assert done[-1] == "dear"


def test_what_is_nobodys_keeps_its_place(threads: FairThreads, go: Callable[[], None]) -> None:
    done: list[str] = []
    first = threads.submit(partial(spend, done, "nobody's", 0.0))
    threads.submit_for("", partial(spend, done, "a tenant's", 0.0))
    go()

    first.result(timeout=60)
    assert "nobody's" in done


def test_tasks_that_wait_at_the_end_are_dropped(
    threads: FairThreads, go: Callable[[], None]
) -> None:
    done: list[str] = []
    for _ in range(100):
        threads.submit_for("", partial(spend, done, "", 0.0))
    threading.Timer(0.1, go).start()
    threads.close()

    assert not done
