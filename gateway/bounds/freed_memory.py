"""Gives memory that large requests have freed back to the system, where the C library keeps it."""

import ctypes
import gc
import sys
from functools import cache
from typing import Any


def give_freed_memory_back() -> None:
    """Frees what is only reachable from itself, such as an error and the frames that it came
    through; then trims the heap, without the interpreter's lock. Takes milliseconds."""
    gc.collect()
    if (trim := _malloc_trim()) is not None:
        trim(0)


@cache
def _malloc_trim() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
