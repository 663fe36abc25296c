"""Gives memory that large requests have freed back to the system, where the C library keeps it."""

import ctypes
import gc
import sys
from functools import cache
from typing import Any

_M_MMAP_THRESHOLD = -3
_LARGE = 1_000_000
"""Bytes of a block that is mapped by itself."""


def map_large_blocks() -> None:
    """Has the C library of Linux map every large block by itself from now on, and unmap it when it
    is freed. It would else raise its own bound with each block that is freed, up to 32 MB, and
    blocks of that size leave holes in its heaps that it does not give back."""
    if (mallopt := _function("mallopt")) is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)


def give_freed_memory_back() -> None:
    """Frees what is only reachable from itself, such as an error and the frames that it came
    through; then trims the heap, without the interpreter's lock. Takes milliseconds."""
    gc.collect()
    if (trim := _function("malloc_trim")) is not None:
        trim(0)


@cache
def _function(name: str) -> Any:
    """A function of the C library; None where there is none of that name."""
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), name, None)
