"""float4 e2m1: a sign, 2 bits of exponent (bias 1), 1 of mantissa.

Its values are 0, 0.5, 1, 1.5, 2, 3, 4 and 6 (OCP Microscaling Formats Specification, revision 1.0).
"""

import numpy as np
import numpy.typing as npt

E2M1_MAX = 6.0
_SIGN = 8
_MAGNITUDES = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0], dtype=np.float32)
_VALUES = np.concatenate([_MAGNITUDES, -_MAGNITUDES])
_BETWEEN = (_MAGNITUDES[1:] + _MAGNITUDES[:-1]) / 2
# A value in the middle goes to the even code: up from an odd one, down from an even one.
_TIES_UP = _BETWEEN[1::2]


def to_e2m1(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """The nearest code of each value, ties to even; larger magnitudes become ±6."""
    magnitude = np.abs(values)
    codes = np.searchsorted(_BETWEEN, magnitude, side="left").astype(np.uint8)
    codes += np.isin(magnitude, _TIES_UP)
    codes |= np.where(np.signbit(values), np.uint8(_SIGN), np.uint8(0))
    return codes


def from_e2m1(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The value of each code."""
    return _VALUES[codes]


def pack_e2m1(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Two inputs in one byte: the even one in the low four bits. Their number must be even."""
    return codes[:, 0::2] | (codes[:, 1::2] << np.uint8(4))


def unpack_e2m1(packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The reverse of `pack_e2m1`."""
    codes = np.empty((packed.shape[0], 2 * packed.shape[1]), dtype=np.uint8)
    codes[:, 0::2] = packed & np.uint8(15)
    codes[:, 1::2] = packed >> np.uint8(4)
    return codes
