"""Threads for the large work of requests: to decode, translate, render and tokenize.

Such work is too long for the event loop, where it would hold up every stream. The work that waits
is bounded, and dropped when its client leaves.
"""

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

from gateway.bounds.freed_memory import give_freed_memory_back
from gateway.errors import GatewayOverloaded

NUM_THREADS = 2
MAX_WAITING = 64
RETRY_SECONDS = 1.0
IDLE_SECONDS = 0.5
"""Time without work after which the memory of the past work is given back."""

SWITCH_SECONDS = 0.0005
"""How long a thread may run Python while another one waits for the interpreter. With CPython's 5 ms
the event loop waits so long for each socket that is ready while large work is done."""

P = ParamSpec("P")
T = TypeVar("T")


class Work(Protocol):
    """A way to call a function that may take long."""

    async def __call__(
        self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...


async def at_once(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of a call that does not take long."""
    return function(*args, **kwargs)


class WorkPool:
    """Belongs to one event loop, and has threads of this process take turns every
    `SWITCH_SECONDS`. `num_running` calls run, on at most `num_threads` threads, and
    `num_waiting` wait. `num_refused` counts the calls that were one too many."""

    def __init__(self, num_threads: int = NUM_THREADS, max_waiting: int = MAX_WAITING) -> None:
        self.num_threads = num_threads
        self.num_running = 0
        self.num_waiting = 0
        self.num_refused = 0
        self._max_waiting = max_waiting
        self._places = asyncio.Semaphore(num_threads)
        sys.setswitchinterval(SWITCH_SECONDS)
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="large-work")
        self._tidying: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a call in a thread. A call that waits is dropped when its task is
        cancelled; one that runs goes on to its end, and its result is dropped. Raises
        GatewayOverloaded if too much waits."""
        await self._wait_for_place()
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._threads, partial(function, *args, **kwargs))
        self.num_running += 1
        work.add_done_callback(self._finished)
        try:
            return await asyncio.shield(work)
        finally:
            del work  # its error would keep this frame, and with it the work's arguments

    def tidy_later(self) -> None:
        """Give freed memory back to the system when nobody has called this for `IDLE_SECONDS`."""
        if self._tidying is not None:
            self._tidying.cancel()
        if not self._is_closed:
            loop = asyncio.get_running_loop()
            self._tidying = loop.call_later(
                IDLE_SECONDS, self._threads.submit, give_freed_memory_back
            )

    def close(self) -> None:
        """No more work is taken, and nobody waits for what still runs."""
        self._is_closed = True
        if self._tidying is not None:
            self._tidying.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _wait_for_place(self) -> None:
        if self._places.locked() and self.num_waiting >= self._max_waiting:
            self.num_refused += 1
            raise GatewayOverloaded(
                f"{self.num_waiting} large requests wait to be read already. Send the request"
                " again.",
                retry_after=RETRY_SECONDS,
            )
        self.num_waiting += 1
        try:
            await self._places.acquire()
        finally:
            self.num_waiting -= 1

    def _finished(self, work: "asyncio.Future[T]") -> None:
        if not work.cancelled():
            work.exception()  # nobody else may be there to look at it
        self.num_running -= 1
        self._places.release()
        self.tidy_later()
