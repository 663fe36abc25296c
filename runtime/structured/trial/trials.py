"""Trials of grammars, and the processes they run in."""

import threading
from collections.abc import Callable

from runtime.errors import EngineOverloaded
from runtime.messages.structured_output import StructuredOutput
from runtime.structured.fitting import FittedConstraint
from runtime.structured.trial.messages import Spelling
from runtime.structured.trial.process import TrialEnded, TrialProcess

MAX_LOST = 2
"""A grammar is refused when so many processes have ended by themselves over it. Once may be the
work of somebody else, such as the kernel when the machine has no memory left."""


class Trials:
    """Runs trials for several threads. Processes start when they are needed, and are kept.

    `spelling` makes the vocabulary. `close` ends all processes; no trial may run then.
    """

    def __init__(self, spelling: Callable[[], Spelling]) -> None:
        self._make_spelling = spelling
        self._spelling: Spelling | None = None
        self._idle: list[TrialProcess] = []
        self._lock = threading.Lock()
        self._starting = threading.Lock()
        self._num_killed = 0

    def run(
        self, wanted: StructuredOutput, is_unwanted: Callable[[], bool]
    ) -> FittedConstraint | str:
        """Compile a grammar on trial. Returns the constraint that compiles, or what compiling it
        used too much of; raises InvalidRequest for one that cannot be enforced, and
        EngineOverloaded on a machine that is too busy. When it becomes unwanted, the trial ends
        soon."""
        reason = ""
        for _ in range(MAX_LOST):
            process = self._take_process()
            try:
                verdict = process.run(wanted, is_unwanted)
            except EngineOverloaded:
                self._count_killed()
                raise
            except TrialEnded as ended:
                self._count_killed()
                reason = ended.reason
                if ended.lost:
                    continue
                return reason
            self._keep(process)
            if verdict.error is not None:
                raise verdict.error
            assert verdict.fitted is not None, "a verdict has a constraint or a refusal"
            return verdict.fitted
        return reason

    def warm_up(self) -> None:
        """Start a process, so that one is idle before the next trial."""
        self._keep(self._take_process())

    def take_num_killed(self) -> int:
        """Number of processes that have ended within a trial since the last call."""
        with self._lock:
            num_killed, self._num_killed = self._num_killed, 0
        return num_killed

    def close(self) -> None:
        while self._idle:
            self._idle.pop().end()

    def _take_process(self) -> TrialProcess:
        """An idle process, or a new one. One starts at a time: meanwhile another may come back."""
        with self._starting:
            if (process := self._take_idle()) is not None:
                return process
            if self._spelling is None:
                self._spelling = self._make_spelling()
            return TrialProcess(self._spelling)

    def _take_idle(self) -> TrialProcess | None:
        with self._lock:
            while self._idle:
                process = self._idle.pop()
                if process.is_alive:
                    return process
                process.end()
        return None

    def _keep(self, process: TrialProcess) -> None:
        if process.is_worn:
            process.end()
            return
        with self._lock:
            self._idle.append(process)

    def _count_killed(self) -> None:
        with self._lock:
            self._num_killed += 1
