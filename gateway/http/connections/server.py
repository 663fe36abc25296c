"""The server's process: it greets, serves, drains and ends."""

import asyncio
import contextlib
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

import structlog
import uvicorn
from msgspec import Struct

from gateway.admission.drain import Drain
from gateway.http.connections.limits import Limited
from gateway.observability.background_writer import BackgroundWriter

log = structlog.get_logger(__name__)

FORCED_SECONDS = 0.5
"""How long an orderly end may take after a second signal."""

LEFTOVERS_SECONDS = 0.5
"""How long the end waits for threads whose work nobody wants any more."""

CLOSING_SECONDS = 0.5
"""How long the end waits for connections without a request to close."""


class Ends(Struct, frozen=True):
    """What the end of a server takes. `cut_off` aborts all running requests: their clients receive
    an error. `abandon` kills the engine and removes its files, from any thread. `say_all` waits
    shortly until the log is written."""

    cut_off: Callable[[], object]
    abandon: Callable[[], object]
    say_all: Callable[[], object]


class Server(uvicorn.Server):
    """uvicorn with four changes: it prints where it listens, it keeps listening while it drains, it
    exits with success after a signal, and nothing holds up its end."""

    def __init__(self, config: uvicorn.Config, greeting: str, drain: Drain, ends: Ends) -> None:
        super().__init__(config)
        self._greeting = greeting
        self._drain = drain
        self._ends = ends
        self._is_told = False
        self._time_to_end: queue.SimpleQueue[float] = queue.SimpleQueue()
        threading.Thread(target=self._end_in_time, name="end", daemon=True).start()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            _greet(self._greeting)

    async def on_tick(self, counter: int) -> bool:
        if self._drain.exits and not self._is_told:
            self._is_told = True
            log.info("server_drains", running=self._drain.num_running)
        is_over = self._drain.is_over  # asked first: what is over is late at the next question
        if self._drain.is_late or self.force_exit:
            self._ends.cut_off()
        self.should_exit = self.should_exit or is_over
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # not the base class: it raises the signal again at exit, and the process would fail
        if self._drain.exits:
            self.should_exit = self.force_exit = True
            self._time_to_end.put(FORCED_SECONDS)
        self._drain.begin(exits=True)

    def stop(self) -> None:
        """Lets running requests finish, then exits. May be called from any thread."""
        self._drain.begin(exits=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._close_idle_in_time()
        await super().shutdown(sockets)
        if self.force_exit:
            # the base class skips this after a second signal, but the engine process must end
            await self.lifespan.shutdown()
        self._time_to_end.put(LEFTOVERS_SECONDS)

    def _close_idle_in_time(self) -> None:
        """Over TLS a closed connection waits for its client's farewell, and few clients send
        one."""
        asyncio.get_running_loop().call_later(CLOSING_SECONDS, self._abort_idle)

    def _abort_idle(self) -> None:
        for connection in list(self.server_state.connections):
            if isinstance(connection, Limited):
                connection.abort_if_idle()
        self._close_idle_in_time()

    def _end_in_time(self) -> None:
        """Ends the process some seconds after it should have ended. Python itself would wait for
        every thread of a pool."""
        seconds = self._time_to_end.get()
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):  # a second order may come, and leave less time
                seconds = self._time_to_end.get(timeout=left)
                end = min(end, time.monotonic() + seconds)
        self._ends.abandon()
        self._ends.say_all()
        os._exit(0)


def _greet(greeting: str) -> None:
    """Prints the greeting to stdout. The server also starts if that fails, for example because the
    disk is full or the reader of a pipe has exited or does not read."""

    def report(error: OSError) -> None:
        log.warning("stdout_cannot_be_written", reason=error.strerror or str(error))

    BackgroundWriter(sys.stdout, on_failure=report).write(f"{greeting}\n".encode())
