"""Progress of a long work in lines, for where there is no terminal."""

import sys
import time
from collections.abc import Callable

_EVERY_SECONDS = 10.0


class ProgressLines:
    """Takes bytes done, bytes in all and what is going on, as downloads report them. Says on stderr
    every ten seconds how far it has come, and at once what has no number of bytes."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._next = now() + _EVERY_SECONDS
        self._label, self._since, self._first = "", 0.0, 0

    def __call__(self, done: int, total: int, label: str) -> None:
        """Notes where the work stands."""
        now = self._now()
        if not total:
            print(label, file=sys.stderr, flush=True)
            return
        if label != self._label:
            self._label, self._since, self._first = label, now, done
        if now >= self._next:
            self._next = now + _EVERY_SECONDS
            print(self._line(done, total, now), file=sys.stderr, flush=True)

    def _line(self, done: int, total: int, now: float) -> str:
        text = f"{self._label}: {done / 1e6:,.0f} of {total / 1e6:,.0f} MB"
        rate = (done - self._first) / (now - self._since) if now > self._since else 0.0
        if rate <= 0:
            return text
        return f"{text}, {rate / 1e6:,.1f} MB/s, {(total - done) / rate:,.0f} s left"
