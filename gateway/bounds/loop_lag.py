"""How long the event loop was held: by its own work, by a thread, or by a busy machine."""

import asyncio
import time

INTERVAL = 0.05
WINDOW = 60.0
"""Seconds after which a long lag is forgotten, at most twice as late."""


class LoopLag:
    """Looks at the clocks at a steady pace and notes by how much each look is late, in seconds."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None
        self._lag = _Longest()
        self._work = _Longest()

    @property
    def longest(self) -> float:
        """The longest lag of the last one to two minutes."""
        return self._lag.value

    @property
    def longest_work(self) -> float:
        """The longest part of a lag of that time that the loop itself worked, by its thread's own
        clock: it does not count what other threads and processes do."""
        return self._work.value

    def start(self) -> None:
        """Looks until `stop`, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._window_end = time.monotonic() + WINDOW
        self._look_again(time.monotonic(), time.thread_time())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self, due: float, worked: float) -> None:
        now, works = time.monotonic(), time.thread_time()
        if now > self._window_end:
            self._window_end = now + WINDOW
            self._lag.forget()
            self._work.forget()
        self._lag.note(now - due)
        self._work.note(min(now - due, works - worked))
        self._look_again(now, works)

    def _look_again(self, now: float, worked: float) -> None:
        self._timer = self._loop.call_later(INTERVAL, self._look, now + INTERVAL, worked)


class _Longest:
    """The longest of the values since the last but one `forget`."""

    def __init__(self) -> None:
        self._now = self._before = 0.0

    @property
    def value(self) -> float:
        return max(self._now, self._before)

    def note(self, value: float) -> None:
        self._now = max(self._now, value)

    def forget(self) -> None:
        self._before, self._now = self._now, 0.0
