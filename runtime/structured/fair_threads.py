"""Threads that compile grammars, shared out fairly among tenants."""

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from runtime.fair_share import FairShare
from runtime.structured.trial.limits import NICENESS

T = TypeVar("T")

NUM_THREADS = 2
"""Number of threads for light grammars; as many trials may run at the same time."""

STACK_BYTES = 16 * 1024**2
"""Stack of the threads that compile grammars: far more than a trial has, see `trial.limits`."""


class FairThreads:
    """`NUM_THREADS` threads. What is submitted for tenants is done in fair turns: the tenant on
    whom the threads have spent the least time is next. So a tenant waits for its own tasks, and
    for those of others only as long as no thread is free."""

    def __init__(self, name: str) -> None:
        self._pool = _threads(name)
        self._lock = threading.Lock()
        self._share = FairShare()
        self._waiting: dict[str, deque[Callable[[], None]]] = {}

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """The future of a call that is nobody's: it is made in order of arrival."""
        return self._pool.submit(function)

    def submit_for(self, tenant: str, task: Callable[[], None]) -> None:
        """Have a task done in this tenant's turn. The task raises nothing."""
        with self._lock:
            self._waiting.setdefault(tenant, deque()).append(task)
            self._share.enter(tenant)
        self._pool.submit(self._do_next)

    def close(self) -> None:
        """Wait for the tasks that run; the others are dropped."""
        self._pool.shutdown(cancel_futures=True)

    def _do_next(self) -> None:
        tenant, task = self._take()
        began = time.monotonic()
        task()
        with self._lock:
            self._share.charge(tenant, time.monotonic() - began)

    def _take(self) -> tuple[str, Callable[[], None]]:
        with self._lock:
            tenant = min(self._waiting, key=self._share.served)
            tasks = self._waiting[tenant]
            task = tasks.popleft()
            if not tasks:
                del self._waiting[tenant]
            self._share.leave(tenant)
            self._share.charge(tenant, 0.0)  # marks the tenant as active
            return tenant, task


def _threads(name: str) -> ThreadPoolExecutor:
    """A pool whose threads all exist, with the stack that they need."""
    before = threading.stack_size(STACK_BYTES)
    try:
        pool = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix=name, initializer=_stand_back)
        ready = threading.Barrier(NUM_THREADS)
        for future in [pool.submit(ready.wait) for _ in range(NUM_THREADS)]:
            future.result()
    finally:
        threading.stack_size(before)
    return pool


def _stand_back() -> None:
    """Gives the engine's threads precedence over this one: on Linux each thread has its own
    niceness."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
