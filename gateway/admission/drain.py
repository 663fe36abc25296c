"""Draining: nothing new is let in, and what runs is finished, within a time."""

import math
import time
from collections.abc import Callable

PAUSE_RETRY_SECONDS = 5.0
"""When to come back to a server that drains without ending: nobody knows for how long."""


class Drain:
    """Whether the server takes requests, and whether it is done with those that it took.

    `timeout` is how many seconds running requests get when the server is to end. Single-threaded,
    but for `begin`, which a signal handler may call.
    """

    def __init__(self, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.is_draining = False
        self.exits = False
        self.num_running = 0
        self._timeout = timeout
        self._clock = clock
        self._deadline = math.inf

    def begin(self, *, exits: bool) -> None:
        """Take nothing new from now on. With `exits` the server ends when it is done; asking again
        does not give what runs more time."""
        self.is_draining = True
        if exits and not self.exits:
            self._deadline = self._clock() + self._timeout
            self.exits = True

    def resume(self) -> bool:
        """Take requests again. False when it is too late: the server is about to end."""
        if self.exits:
            return False
        self.is_draining = False
        return True

    @property
    def seconds_left(self) -> float:
        """Until what still runs is cut off; infinite when it never is."""
        return max(self._deadline - self._clock(), 0.0)

    @property
    def retry_after(self) -> float:
        """Seconds after which a client that was refused may try again."""
        return self.seconds_left if self.exits else PAUSE_RETRY_SECONDS

    @property
    def is_late(self) -> bool:
        """Whether requests still run although their time is over."""
        return self.exits and self.num_running > 0 and self.seconds_left == 0

    @property
    def is_over(self) -> bool:
        """Whether the server can end now."""
        return self.exits and (self.num_running == 0 or self.seconds_left == 0)
