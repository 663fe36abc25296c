"""Worker threads that convert tensors, and what they return."""

from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from threading import Event
from typing import TypeVar

Result = TypeVar("Result")


class Pool:
    """Threads that stop soon after one of them fails, or after Ctrl-C."""

    def __init__(self, num_threads: int) -> None:
        self._executor = ThreadPoolExecutor(num_threads)
        self.stop = Event()

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if kind is not None:
            self.stop.set()
        self._executor.shutdown(cancel_futures=kind is not None)

    def run(self, *jobs: Callable[[], Result]) -> list[Result]:
        """Runs all jobs, the first ones first, and returns what they return, in order."""
        futures = [self._executor.submit(job) for job in jobs]
        finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
        for future in finished:
            future.result()
        return [future.result() for future in futures]


class Stopped(Exception):
    """Another thread has failed; this thread's result is discarded."""
