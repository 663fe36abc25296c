"""The engine's end of a process for trials."""

import contextlib
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import BinaryIO, cast

import psutil

from runtime.errors import EngineError, EngineOverloaded
from runtime.messages.structured_output import StructuredOutput
from runtime.structured.trial.limits import (
    MAX_MEMORY,
    MAX_PROCESSOR_SECONDS,
    MAX_SECONDS,
    POLL_SECONDS,
    START_SECONDS,
)
from runtime.structured.trial.messages import Spelling, Verdict, read_message, write_message


class TrialEnded(Exception):
    """The process ended before its verdict: by itself, or because it used more than it may.
    `reason` continues a sentence about the grammar. A process that is `lost` ended by itself: its
    stack or its memory was used up, or it was killed by somebody else."""

    def __init__(self, reason: str, *, lost: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.lost = lost


class TrialProcess:
    """One process. Belongs to one thread at a time; after `TrialEnded` it is gone and waited for.

    Raises EngineError when it cannot be started.
    """

    def __init__(self, spelling: Spelling) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "runtime.structured.trial"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._verdicts: queue.SimpleQueue[Verdict | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="trial-reader", daemon=True)
        self._reader.start()
        self._send(spelling)
        if self._take(START_SECONDS) is None:
            self.end()
            raise EngineError("The process that compiles grammars does not start.")
        self._info = psutil.Process(self._process.pid)
        self._memory_at_start = self._memory()

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    @property
    def is_worn(self) -> bool:
        """Whether earlier trials have left so much in its memory that a fresh one is better."""
        return self._memory() - self._memory_at_start > MAX_MEMORY / 2

    def run(self, wanted: StructuredOutput, is_unwanted: Callable[[], bool]) -> Verdict:
        """Compile a grammar. Looks every `POLL_SECONDS` at what it costs, and whether it has become
        unwanted. Raises TrialEnded, and EngineOverloaded on a machine that is too busy."""
        began, processor, memory = time.monotonic(), self._processor_seconds(), self._memory()
        self._send(wanted)
        while True:
            try:
                verdict = self._verdicts.get(timeout=POLL_SECONDS)
            except queue.Empty:
                reason = self._excess(began, processor, memory)
                if is_unwanted() or reason:
                    self.end()
                    raise TrialEnded(reason or "nobody waits for it") from None
                continue
            if verdict is None:
                self.end()
                raise TrialEnded("it is nested too deeply or too large to be compiled", lost=True)
            return verdict

    def end(self) -> None:
        """Kill the process, and wait until nothing is left of it."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):  # what was still to be written has no reader
                    stream.close()

    def _excess(self, began: float, processor: float, memory: int) -> str:
        """What a trial has used too much of; "" while it may go on. Raises EngineOverloaded when
        the machine was too busy to come to a verdict."""
        if self._processor_seconds() - processor > MAX_PROCESSOR_SECONDS:
            return f"compiling it takes more than {MAX_PROCESSOR_SECONDS:g} s of processor time"
        if time.monotonic() - began > MAX_SECONDS:
            self.end()
            raise EngineOverloaded(
                f"The grammar was not compiled within {MAX_SECONDS:g} seconds, because the machine"
                " is busy. Try again later.",
                retry_after=1.0,
            )
        if self._memory() - memory > MAX_MEMORY:
            return f"compiling it takes more than {MAX_MEMORY // 1024**2} MiB of memory"
        return ""

    def _processor_seconds(self) -> float:
        with contextlib.suppress(psutil.Error):
            times = self._info.cpu_times()
            return float(times.user + times.system)
        return 0.0

    def _memory(self) -> int:
        with contextlib.suppress(psutil.Error):
            return int(self._info.memory_info().rss)
        return 0

    def _send(self, message: object) -> None:
        with contextlib.suppress(OSError):  # it has ended, as the reader tells
            write_message(cast(BinaryIO, self._process.stdin), message)

    def _take(self, seconds: float) -> Verdict | None:
        with contextlib.suppress(queue.Empty):
            return self._verdicts.get(timeout=seconds)
        return None

    def _read(self) -> None:
        stdout = cast(BinaryIO, self._process.stdout)
        while (verdict := read_message(stdout, Verdict)) is not None:
            self._verdicts.put(verdict)
        self._process.wait()  # also of an idle one, so that no zombie stays
        self._verdicts.put(None)
