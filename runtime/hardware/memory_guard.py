"""Decides when a GPU's memory is so nearly used up that nothing new should be let in."""

from collections.abc import Sequence

AUTO_MIN_FREE_BYTES = 250_000_000
"""The most that has to stay free where nobody set it."""

_REOPEN = 1.25
"""Times what has to stay free: between the two nothing changes, so that it does not flutter."""


class MemoryGuard:
    """Closes when less than `min_free_bytes` are free, and opens again when a quarter more are.

    0 watches nothing. None chooses when the engine has loaded (`calibrate`): half of what it left
    free, at most `AUTO_MIN_FREE_BYTES`; so an engine that takes nearly all of the memory for its
    cache, as it should, is never taken for one in trouble.
    """

    def __init__(self, min_free_bytes: int | None) -> None:
        self._is_auto = min_free_bytes is None
        self.min_free_bytes = min_free_bytes or 0
        self.is_closed = False

    def calibrate(self, free: Sequence[int]) -> None:
        """The engine has loaded, and so many bytes are free on its GPUs."""
        if self._is_auto and free:
            self.min_free_bytes = min(AUTO_MIN_FREE_BYTES, min(free) // 2)

    def update(self, free: Sequence[int]) -> None:
        """So many bytes are free now on each GPU. Open when there is nothing to know."""
        limit = self.min_free_bytes * (_REOPEN if self.is_closed else 1)
        self.is_closed = bool(free) and min(free) < limit
