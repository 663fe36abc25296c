"""Limits per minute: a sliding window over taken amounts. Pure.

A token bucket that starts full lets through twice its limit around the moment at which it is full
again. A sliding window does not: no 60 seconds, wherever they begin, hold more than the limit. The
window sums amounts by the second, so it keeps 60 numbers and not one for each request.
"""

import math
from collections import deque

WINDOW_SECONDS = 60.0
_SLOT_SECONDS = 1.0


class Charge:
    """The amount taken within the second from `start` on the monotonic clock; `last` is when the
    last of it was taken."""

    __slots__ = ("amount", "last", "start")

    def __init__(self, start: float) -> None:
        self.start = self.last = start
        self.amount = 0

    def seconds_left(self, now: float) -> float:
        """How long it stays in the window; 0 or less when it has left."""
        return self.last - (now - WINDOW_SECONDS)


class SlidingWindow:
    """Takes at most `limit` (more than 0) within any `WINDOW_SECONDS`. `limit` may be changed at
    any time; what is taken while it is infinite counts for a later one. All times are seconds on
    one monotonic clock, and never go back."""

    def __init__(self, limit: float = math.inf) -> None:
        self.limit = limit
        self._charges: deque[Charge] = deque()
        self._taken = 0

    def remaining(self, now: float) -> float:
        """The amount that can be taken at once; never negative, and infinite without a limit."""
        self._forget(now)
        return max(self.limit - self._taken, 0)

    def take(self, amount: int, now: float) -> Charge | None:
        """Takes all of `amount` or nothing: None means that it does not fit now."""
        if amount > self.remaining(now):
            return None
        return self._add(amount, now)

    def settle(self, charge: Charge, reserved: int, used: int, now: float) -> None:
        """Replaces the reserved amount by the used one. If less was used, the rest is given back
        while it is still in the window. If more was used, the excess is taken now, even beyond the
        limit."""
        self._forget(now)
        if used > reserved:
            self._add(used - reserved, now)
        elif charge.seconds_left(now) > 0:
            charge.amount -= reserved - used
            self._taken -= reserved - used

    def retry_after(self, amount: int, now: float) -> float:
        """Seconds until `amount` fits, if nothing else is taken; infinite if it never fits."""
        if amount > self.limit:
            return math.inf
        missing = amount - self.remaining(now)
        seconds = 0.0
        for charge in self._charges:
            if missing <= 0:
                break
            missing -= charge.amount
            seconds = charge.seconds_left(now)
        return seconds

    def reset_after(self, now: float) -> float:
        """Seconds until the whole limit is available again, if nothing else is taken."""
        self._forget(now)
        last = next((charge for charge in reversed(self._charges) if charge.amount), None)
        return last.seconds_left(now) if last else 0.0

    def _add(self, amount: int, now: float) -> Charge:
        if not self._charges or self._charges[-1].start <= now - _SLOT_SECONDS:
            self._charges.append(Charge(now))
        charge = self._charges[-1]
        charge.last = now
        charge.amount += amount
        self._taken += amount
        return charge

    def _forget(self, now: float) -> None:
        while self._charges and self._charges[0].seconds_left(now) <= 0:
            self._taken -= self._charges.popleft().amount
