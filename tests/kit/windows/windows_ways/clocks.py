"""The clocks of Windows, which go on in steps."""

import time
from types import SimpleNamespace

TICK = 1 / 64
"""Seconds between two steps."""

_STEPPING = ("monotonic", "time")


def make_coarse() -> None:
    """Let `time.monotonic` and `time.time` go on in steps. Everyone in a process reads the same
    clocks, so libraries and tests do it too, and an event loop's timers fire up to a step early."""
    get_clock_info = time.get_clock_info
    for name in _STEPPING:
        setattr(time, name, _stepping(getattr(time, name)))

    def clock_info(name: str) -> object:
        info = get_clock_info(name)
        return SimpleNamespace(**{**vars(info), "resolution": TICK}) if name in _STEPPING else info

    time.get_clock_info = clock_info  # type: ignore[assignment]


def _stepping(read):  # type: ignore[no-untyped-def]
    return lambda: read() // TICK * TICK
