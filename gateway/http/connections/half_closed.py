"""Clients that end their sending side and still read.

The end of what a client sends looks the same whether it still reads or is gone. Only the answer of
its machine to a further byte tells the two apart: a reset if it is gone.
"""

import asyncio
import select
import sys
import time
from collections.abc import Callable
from typing import Any

LOOK_SECONDS = 0.05
PROBE_SECONDS = 5.0

PROBE = b"HTTP/1.1 100 Continue\r\n\r\n"
"""Bytes that may come before every answer in HTTP/1.1, and that a client skips."""


class HalfClosed:
    """Watches a connection whose client has sent all that it will. While `may_probe` says that no
    answer has begun, `PROBE` is written now and then; later, the answer itself shows whether
    somebody reads. A connection that was reset is aborted."""

    def __init__(self, transport: Any, may_probe: Callable[[], bool]) -> None:
        self._transport = transport
        self._may_probe = may_probe
        self._next_probe = 0.0
        self._poll = _new_poll()
        self._poll.register(transport.get_extra_info("socket").fileno(), 0)
        self._loop = asyncio.get_running_loop()
        self._look()

    def stop(self) -> None:
        """Looks no more."""
        self._timer.cancel()

    def _look(self) -> None:
        if self._poll.poll(0):  # errors are reported unasked
            self._transport.abort()
        elif self._may_probe() and time.monotonic() >= self._next_probe:
            self._next_probe = time.monotonic() + PROBE_SECONDS
            self._transport.write(PROBE)
        self._timer = self._loop.call_later(LOOK_SECONDS, self._look)


def _new_poll() -> Any:
    if sys.platform == "win32":
        raise NotImplementedError("`can_be_told` says so")
    return select.poll()


def can_be_told(scheme: str) -> bool:
    """Whether this machine and this kind of connection allow it. TLS has no half-closed state in
    Python, and Windows no such poll."""
    return scheme == "http" and sys.platform != "win32"
