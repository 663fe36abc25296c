"""Draining: new requests are refused, and running requests may finish within a timeout."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PAUSE_RETRY_SECONDS = 5.0
"""Retry delay for clients of a server that drains without exiting; the end of such a drain is not
known."""


class Drain:
    """Whether the server accepts requests, and whether the accepted ones are done.

    `timeout` is how many seconds running requests get when the server is to exit. Single-threaded,
    except for `begin`, which a signal handler may call.
    """

    def __init__(self, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.is_draining = False
        self.exits = False
        self.num_running = 0
        self.timeout = timeout
        self._clock = clock
        self._deadline = math.inf

    def begin(self, *, exits: bool) -> None:
        """Refuses new requests from now on. With `exits` the server exits when running requests are
        done; a second call does not extend their time."""
        self.is_draining = True
        if exits and not self.exits:
            self._deadline = self._clock() + self.timeout
            self.exits = True

    def resume(self) -> bool:
        """Accepts requests again. False if it is too late: the server is about to exit."""
        if self.exits:
            return False
        self.is_draining = False
        return True

    @contextmanager
    def running(self) -> Iterator[None]:
        """Counts a request as running for the length of the block."""
        self.num_running += 1
        try:
            yield
        finally:
            self.num_running -= 1

    @property
    def seconds_left(self) -> float:
        """Seconds until running requests are cut off; infinite if they never are."""
        return max(self._deadline - self._clock(), 0.0)

    @property
    def retry_after(self) -> float:
        """Seconds after which a refused client may try again."""
        return self.seconds_left if self.exits else PAUSE_RETRY_SECONDS

    @property
    def is_late(self) -> bool:
        """Whether requests still run after the timeout."""
        return self.exits and self.num_running > 0 and self.seconds_left == 0

    @property
    def is_over(self) -> bool:
        """Whether the server can exit now."""
        return self.exits and (self.num_running == 0 or self.seconds_left == 0)
