"""How often, and how soon, a dead engine is started again."""

from collections import deque

FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 30.0

MAX_SEARCH_DEATHS = 40
"""Deaths within one window, beyond `max_restarts`, that the search for a guilty request may cost.
A guilty request among 256 suspects takes ten at most."""


class RestartBudget:
    """`max_restarts` within `window` seconds, each after a pause twice as long as the one before.

    Deaths during a search for a guilty request are counted separately. They are few, each brings
    the search nearer to its end, and the pause after each is the shortest.
    """

    def __init__(self, max_restarts: int, window: float) -> None:
        self.max_restarts = max_restarts
        self.window = window
        self._deaths: deque[float] = deque()
        self._search_deaths: deque[float] = deque()

    def death(self, now: float, *, is_search: bool = False) -> float | None:
        """Count a death at time `now` (seconds). Returns the pause in seconds before the next
        start, or None when the budget is used up."""
        deaths = self._search_deaths if is_search else self._deaths
        deaths.append(now)
        while deaths[0] < now - self.window:
            deaths.popleft()
        if is_search:
            return FIRST_PAUSE_SECONDS if len(deaths) <= MAX_SEARCH_DEATHS else None
        if len(deaths) > self.max_restarts:
            return None
        return float(min(FIRST_PAUSE_SECONDS * 2 ** (len(deaths) - 1), MAX_PAUSE_SECONDS))

    def forgive(self) -> None:
        """Forget all deaths."""
        self._deaths.clear()
        self._search_deaths.clear()
