"""Decides when so little GPU memory is free that requests must be refused."""

from collections.abc import Sequence

AUTO_MIN_FREE_BYTES = 250_000_000
"""Upper bound of the limit that the guard chooses itself."""

_REOPEN = 1.25
"""Multiple of `min_free_bytes` at which a closed guard opens. The gap keeps it from flapping."""


class MemoryGuard:
    """Closes when a GPU has less than `min_free_bytes` free, and opens when all have a quarter
    more.

    With 0 it never closes. With None, `calibrate` chooses the limit when the engine has loaded:
    half of the memory that is still free, at most `AUTO_MIN_FREE_BYTES`. An engine that fills
    nearly all memory with its cache, as it should, therefore does not close the guard.
    """

    def __init__(self, min_free_bytes: int | None) -> None:
        self._is_auto = min_free_bytes is None
        self.min_free_bytes = min_free_bytes or 0
        self.is_closed = False

    def calibrate(self, free: Sequence[int]) -> None:
        """Chooses `min_free_bytes`, if that was None. `free` is in bytes, for each GPU, when the
        engine has loaded."""
        if self._is_auto and free:
            self.min_free_bytes = min(AUTO_MIN_FREE_BYTES, min(free) // 2)

    def update(self, free: Sequence[int]) -> None:
        """Opens or closes the guard. `free` is in bytes, for each GPU; the guard opens if it is
        empty."""
        limit = self.min_free_bytes * (_REOPEN if self.is_closed else 1)
        self.is_closed = bool(free) and min(free) < limit
