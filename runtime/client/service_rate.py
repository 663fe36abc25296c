"""Measures how fast requests are served, to estimate when a place will be free."""

import time
from collections import deque
from collections.abc import Callable

MAX_RETRY_AFTER = 120.0
"""Seconds. OpenAI's client does not retry at all if told to wait longer."""

MIN_RETRY_AFTER = 1.0
"""Seconds."""

DEFAULT_RETRY_AFTER = 5.0
"""Seconds, as long as fewer than two requests have been completed."""

WINDOW = 128
"""Completions that the rate is measured over."""


class ServiceRate:
    """Completions per second of work. Time without requests in flight does not count.

    `_marks` holds that busy time at the start and at each completion, the last `WINDOW + 1`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._busy_seconds = 0.0
        self._busy_since: float | None = None
        self._marks: deque[float] = deque([0.0], maxlen=WINDOW + 1)

    def in_flight(self, num_requests: int) -> None:
        """Set the number of requests in flight."""
        if num_requests and self._busy_since is None:
            self._busy_since = self._clock()
        elif not num_requests and self._busy_since is not None:
            self._busy_seconds = self._busy_time()
            self._busy_since = None

    def completed(self) -> None:
        """One request has been served to its end."""
        self._marks.append(self._busy_time())

    def retry_after(self, num_requests: int) -> float:
        """Seconds until `num_requests` more requests have been served, within the bounds above."""
        num_completed = len(self._marks) - 1
        if num_completed < 2:
            return DEFAULT_RETRY_AFTER
        seconds = num_requests * (self._busy_time() - self._marks[0]) / num_completed
        return min(max(seconds, MIN_RETRY_AFTER), MAX_RETRY_AFTER)

    def _busy_time(self) -> float:
        if self._busy_since is None:
            return self._busy_seconds
        return self._busy_seconds + self._clock() - self._busy_since
