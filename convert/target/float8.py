"""float8 e4m3fn, for which numpy has no type: 4 bits of exponent (bias 7), 3 of mantissa.

It has no infinities; 0x7F and 0xFF are NaN; the largest value is 448 and the smallest 2^-9 (OCP
8-bit Floating Point Specification, revision 1.0).
"""

import numpy as np
import numpy.typing as npt

E4M3_MAX = 448.0
_NAN = 0x7F
_MAX_CODE = 0x7E
# A float32 above this is the first that is normal in e4m3 (2^-6).
_SMALLEST_NORMAL = np.uint32(0x3C800000)
# The exponent of float32 is biased by 127, that of e4m3 by 7.
_REBIAS = np.uint32((127 - 7) << 3)
_DROPPED_BITS = 23 - 3
# Added to a value below 2^-6, it leaves multiples of 2^-9, rounded to even, in the lowest bits.
_MAGIC = np.float32(2.0**14)


def to_e4m3(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """The nearest code of each value, ties to even; larger magnitudes become ±448."""
    bits = values.view(np.uint32)
    magnitude = bits & np.uint32(0x7FFFFFFF)
    odd = (magnitude >> _DROPPED_BITS) & np.uint32(1)
    half = np.uint32((1 << (_DROPPED_BITS - 1)) - 1)
    codes = ((magnitude + half + odd) >> _DROPPED_BITS) - _REBIAS
    small = magnitude < _SMALLEST_NORMAL
    if small.any():
        tiny = magnitude[small].view(np.float32) + _MAGIC
        codes[small] = tiny.view(np.uint32) - _MAGIC.view(np.uint32)
    np.minimum(codes, np.uint32(_MAX_CODE), out=codes)
    codes[magnitude > np.uint32(0x7F800000)] = _NAN
    codes |= (bits >> np.uint32(24)) & np.uint32(0x80)
    return codes.astype(np.uint8)


def from_e4m3(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The value of each code."""
    return _VALUES[codes]


def _value(code: int) -> float:
    sign = -1.0 if code & 0x80 else 1.0
    exponent, mantissa = code >> 3 & 0xF, code & 7
    if code & 0x7F == _NAN:
        return float("nan")
    if exponent == 0:
        return sign * mantissa * 2.0**-9
    return sign * (8 + mantissa) * 2.0 ** (exponent - 10)


_VALUES = np.array([_value(code) for code in range(256)], dtype=np.float32)
