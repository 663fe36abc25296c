"""Numbers that llama.cpp has computed, seen where they lie."""

import ctypes
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats32: TypeAlias = NDArray[np.float32]


def floats_at(address: int, count: int) -> Floats32:
    """A view of 32-bit floats at an address, valid as long as the library leaves them there."""
    return np.frombuffer(memoryview((ctypes.c_float * count).from_address(address)), np.float32)
