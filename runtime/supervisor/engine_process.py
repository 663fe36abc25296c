"""The process of an engine: how it is started, waited for and ended."""

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Mapping

import msgspec
import structlog

from runtime.config.engine import EngineConfig
from runtime.config.worker import WorkerConfig, engine_environment
from runtime.processes import descendants, kill, session_members
from runtime.supervisor.engine_output import EngineOutput, forward

log = structlog.get_logger(__name__)

KILL_SECONDS = 10.0
"""How long a killed process may take to be gone."""


class EngineProcess:
    """A running engine process. It belongs to the event loop on which it is started."""

    def __init__(self, config: WorkerConfig, output: EngineOutput | None) -> None:
        """Starts it. Raises OSError when that fails; then nothing is left running."""
        self.num_outputs = 0
        """Counts pieces of what it has written to its standard streams, if they are read here."""
        self._process = _start(config.engine, output)
        try:
            self._configure(config, output)
        except BaseException:
            self._process.kill()
            self._process.wait()
            self._close()
            raise
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """The exit status, negative for a signal."""
        threading.Thread(
            target=self._wait, args=(asyncio.get_running_loop(),), name="engine-wait", daemon=True
        ).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def abandon(self) -> None:
        """Kill the process and what it has started, without waiting, from any thread."""
        kill([*descendants(self.pid), *session_members(self.pid)])
        self._process.kill()

    async def end(self) -> None:
        """Kill the process and what it has started, and wait until the process is gone. One that
        the system cannot end, because a driver holds it, is left behind after `KILL_SECONDS`."""
        started = descendants(self.pid)  # before it dies and its children lose it as parent
        self._process.kill()
        try:
            await asyncio.wait([self.ended], timeout=KILL_SECONDS)
        finally:
            kill([*started, *session_members(self.pid)])
            self._close()
        if not self.ended.done():
            log.warning("engine_cannot_be_killed", pid=self.pid)

    def _close(self) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()

    def _configure(self, config: WorkerConfig, output: EngineOutput | None) -> None:
        if output is not None:
            forward(self._process, output.write, self._count_output)
        stdin = self._process.stdin
        assert stdin is not None, "the process was started with a pipe"
        encoded = msgspec.msgpack.encode(config)
        with contextlib.suppress(BrokenPipeError):  # it has died; `ended` tells of what
            stdin.write(len(encoded).to_bytes(4, "big") + encoded)
            stdin.flush()  # and stays open: its end tells the engine that the gateway is gone

    def _count_output(self) -> None:
        self.num_outputs += 1

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread of its own: one of a pool might come late, or keep the loop from closing."""
        status = self._process.wait()
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            loop.call_soon_threadsafe(self._note_end, status)

    def _note_end(self, status: int) -> None:
        if not self.ended.done():
            self.ended.set_result(status)


def _start(config: EngineConfig, output: EngineOutput | None) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "runtime.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE if output else None,
        stderr=subprocess.STDOUT if output else None,
        env=_environment(config),
        start_new_session=True,
    )


def _environment(config: EngineConfig) -> Mapping[str, str]:
    return engine_environment(config, os.environ)
