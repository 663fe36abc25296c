"""The servers under load, and how one load is put on one of them."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from measures import Sample, take_sample
from rich.console import Console
from server import RunningServer
from sessions import Endpoint, SessionsResult, run_sessions
from workloads import Workload

IDLE_SECONDS = 3.0
MAX_IDLE_SHARE = 0.02
"""Of one core: what an idle server may use beside the one that is measured."""

Start = Callable[[], AbstractContextManager[RunningServer]]


@dataclass(frozen=True)
class Load:
    """A workload at a number of streams."""

    workload: Workload
    streams: int

    def __str__(self) -> str:
        return f"{self.workload.name} × {self.streams}"


@dataclass(frozen=True)
class Taken:
    """One load on one server in one round: the measures, and what they were made of."""

    load: Load
    server: str
    sample: Sample
    result: SessionsResult


class Fleet:
    """The servers that are measured. They all run all the time where that costs nothing, else
    one at a time, each started anew and warmed up for every load."""

    def __init__(self, starts: Mapping[str, Start], endpoint: Callable[[RunningServer], Endpoint]):
        self.names = tuple(starts)
        self._starts = starts
        self._endpoint = endpoint
        self._running: dict[str, RunningServer] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)  # adds to an error what the servers wrote

    def start(self, loads: list[Load], console: Console, timeout: float) -> None:
        """Start and warm up all of them, and stop them again where an idle one is not idle."""
        for name, start in self._starts.items():
            self._running[name] = self._stack.enter_context(start())
        for server in self._running.values():
            for load in _one_of_each(loads):
                warm_up(server, self._endpoint(server), load, timeout)
        shares = idle_shares(list(self._running.values()))
        shown = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
        console.print(f"idle, of one core: {shown}", style="dim")
        if len(shares) > 1 and max(shares.values()) > MAX_IDLE_SHARE:
            console.print("too much: one server at a time", style="dim")
            self._stop()

    @contextlib.contextmanager
    def use(self, name: str, load: Load, timeout: float) -> Iterator[RunningServer]:
        """The server of this name, ready for this load."""
        if name in self._running:
            yield self._running[name]
            return
        with self._starts[name]() as server:
            warm_up(server, self._endpoint(server), load, timeout)
            yield server

    def measure(self, name: str, load: Load, round_number: int, timeout: float) -> Taken:
        """One load on one server."""
        sessions = load.workload.sessions(load.streams, round_number)
        with self.use(name, load, timeout) as server:
            before = server.tree_cpu_seconds()
            result = run_sessions(self._endpoint(server), sessions, timeout=timeout)
            result.server_cpu_seconds = server.tree_cpu_seconds() - before
        return Taken(load, name, take_sample(load.workload.name, result), result)

    def _stop(self) -> None:
        self._running.clear()
        self._stack.close()


def _one_of_each(loads: list[Load]) -> list[Load]:
    """One load for each workload: the one with the most streams."""
    return list({load.workload.name: load for load in sorted(loads, key=_by_streams)}.values())


def _by_streams(load: Load) -> int:
    return load.streams


def warm_up(server: RunningServer, endpoint: Endpoint, load: Load, timeout: float) -> None:
    """A short load of the same kind, uncounted. Raises RuntimeError where it fails."""
    sessions = load.workload.brief().sessions(load.streams, 0)
    result = run_sessions(endpoint, sessions, timeout=timeout)
    if result.failures:
        raise RuntimeError(f"{server.name} does not answer: {result.failures[0]}")


def idle_shares(servers: list[RunningServer]) -> dict[str, float]:
    """How much of one core each of them uses while nobody asks anything."""
    before = [server.tree_cpu_seconds() for server in servers]
    time.sleep(IDLE_SECONDS)
    return {
        server.name: (server.tree_cpu_seconds() - earlier) / IDLE_SECONDS
        for server, earlier in zip(servers, before, strict=True)
    }
