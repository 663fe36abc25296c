"""Detects that the package is dead or hangs, which it does not always report itself.

Release 1.2 does not wake callers that wait for a dead worker, and does not detect hangs
(docs/tensorrt-llm-contract.md, 6.3 and 6.5).
"""

import os
from collections.abc import Collection
from typing import Any

import psutil

from runtime.config.tensorrt_llm import SINGLE_PROCESS
from runtime.engines.tensorrt_llm.sequence import Sequence
from runtime.errors import EngineFatal
from runtime.processes import is_alive

CHECK_SECONDS = 0.5
"""Seconds between two checks of processes and requests."""


class Watchdog:
    """Checks the package's worker processes, and the progress of requests. `no_progress_timeout` is
    in seconds. `may_pause` says that the scheduler's policy may pause a started request; otherwise
    a started request gets a token in every step.

    It must be made after the model has been loaded: it watches the processes that exist then.
    """

    def __init__(self, llm: Any, *, no_progress_timeout: float, may_pause: bool) -> None:
        self._llm = llm
        self._timeout = no_progress_timeout
        self._may_pause = may_pause
        self._workers = _workers()
        self._next_check = 0.0

    def check(self, now: float, sequences: Collection[Sequence]) -> None:
        """Checks, if the last check is `CHECK_SECONDS` old. `now` is on the monotonic clock. Raises
        EngineFatal."""
        if now < self._next_check:
            return
        self._next_check = now + CHECK_SECONDS
        for worker in self._workers:
            if not is_alive(worker):
                raise EngineFatal(f"TensorRT-LLM's worker process {worker.pid} has died.")
        if not self._llm._check_health():
            raise EngineFatal("TensorRT-LLM says that its executor has shut down.")
        self._check_progress(now, sequences)

    def _check_progress(self, now: float, sequences: Collection[Sequence]) -> None:
        """A request that has not started may wait for memory while others progress. The engine
        hangs if no request progresses, or if a started request makes no progress."""
        if not sequences:
            return
        silence = now - max(sequence.last_progress for sequence in sequences)
        if silence > self._timeout:
            raise _hang("The engine", silence)
        for sequence in sequences:
            silence = now - sequence.last_progress
            if sequence.has_started and silence > self._timeout and not self._may_pause:
                raise _hang(f"Request {sequence.request_id}", silence)


def _hang(who: str, seconds: float) -> EngineFatal:
    return EngineFatal(
        f"{who} has had no token for {seconds:.0f} seconds, longer than"
        f" engine.tensorrt_llm.no_progress_timeout: TensorRT-LLM hangs."
    )


def _workers() -> list[psutil.Process]:
    """The package's worker processes: those that MPI has started, if there are any, else all direct
    children (docs/tensorrt-llm-contract.md, 6.4). If the package works in this process there are
    none: children are helpers, which may come and go. A helper that has ended before is none."""
    process = psutil.Process()
    started = [child for child in process.children(recursive=True) if _is_mpi(child)]
    if started or os.environ.get(SINGLE_PROCESS) == "1":
        return started
    return [child for child in process.children() if is_alive(child)]


def _is_mpi(process: psutil.Process) -> bool:
    try:
        return any("mpi4py" in argument for argument in process.cmdline())
    except psutil.Error:
        return False
