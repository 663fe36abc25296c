"""How long the event loop was held: by one piece of work, or by a busy machine."""

import asyncio
import time

INTERVAL = 0.05
WINDOW = 60.0
"""Seconds after which a long lag is forgotten, at most twice as late."""


class LoopLag:
    """Looks at the clock at a steady pace and notes by how much each look is late, in seconds."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None
        self._longest = self._longest_before = 0.0

    @property
    def longest(self) -> float:
        """The longest lag of the last one to two minutes."""
        return max(self._longest, self._longest_before)

    def start(self) -> None:
        """Looks until `stop`, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._window_end = time.monotonic() + WINDOW
        self._look_again(time.monotonic())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self, due: float) -> None:
        now = time.monotonic()
        if now > self._window_end:
            self._longest_before, self._longest = self._longest, 0.0
            self._window_end = now + WINDOW
        self._longest = max(self._longest, now - due)
        self._look_again(now)

    def _look_again(self, now: float) -> None:
        self._timer = self._loop.call_later(INTERVAL, self._look, now + INTERVAL)
