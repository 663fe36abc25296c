"""4-bit integers as AutoAWQ and AutoGPTQ pack them: eight in an int32.

Of one weight of shape (out, in), with G groups of inputs:

AWQ (version GEMM)  `qweight` [in, out / 8]: eight outputs in an integer, in the order
                    0 2 4 6 1 3 5 7 from the low bits up; `qzeros` [G, out / 8], the same way.
GPTQ                `qweight` [in / 8, out]: eight inputs in an integer, in order;
                    `qzeros` [G, out / 8]: eight outputs in an integer, in order, the integer less
                    0x11111111 but in `gptq_v2`; `g_idx` [in], if there, is the group of each input.

Both have `scales` [G, out], and mean (q - zero) * scale with q and zero of the output and of the
group (autoawq, utils/packing_utils; AutoGPTQ, nn_modules/qlinear; GPTQModel for v2).
"""

from typing import Literal

import numpy as np
import numpy.typing as npt
from msgspec import Struct

Method = Literal["awq", "gptq"]
Integers = npt.NDArray[np.uint32]
Rows = npt.NDArray[np.float32]

PER_INTEGER = 8
SYMMETRIC_ZERO = 8
"""The zero point of a grid from -8 to 7."""
_IN_ORDER = np.arange(PER_INTEGER, dtype=np.uint32) * np.uint32(4)
# where the outputs 0 to 7 are: the reverse of the order 0 2 4 6 1 3 5 7
_INTERLEAVED = np.array([0, 4, 1, 5, 2, 6, 3, 7], dtype=np.uint32) * np.uint32(4)
_NIBBLE = np.uint32(15)
_ONES = 0x11111111


class Packing(Struct, frozen=True):
    """How a checkpoint is packed. `group_size` is in inputs, -1 for one group of all.

    `zero_offset` is what must be added to a stored zero point. It is added to the integer as a
    whole: a zero point of 0 has borrowed from its neighbour when one was taken away.
    """

    method: Method
    group_size: int
    zero_offset: int = 0

    def num_groups(self, num_inputs: int) -> int:
        return -(-num_inputs // self.inputs_per_group(num_inputs))

    def inputs_per_group(self, num_inputs: int) -> int:
        return num_inputs if self.group_size == -1 else self.group_size


class PackedTensor(Struct, frozen=True):
    """The arrays of one weight. `groups` (in) is the group of each input."""

    packing: Packing
    qweight: Integers
    qzeros: Integers
    scales: Rows
    groups: npt.NDArray[np.int64]

    def rows(self, start: int, stop: int) -> Rows:
        """The values of outputs `start` to `stop` - 1, exact, of shape (outputs, inputs)."""
        levels = self._levels(start, stop).astype(np.float32)
        zeros = self._zeros(start, stop).astype(np.float32)
        with np.errstate(all="ignore"):  # damaged scales may be infinite
            levels -= zeros[self.groups]
            levels *= self.scales[self.groups, start:stop]
        return np.ascontiguousarray(levels.T)

    def num_uneven_zeros(self) -> int:
        """How many zero points are not in the middle of the grid."""
        zeros = self._zeros(0, self.scales.shape[1])
        return int(np.count_nonzero(zeros != SYMMETRIC_ZERO))

    def _levels(self, start: int, stop: int) -> Integers:
        if self.packing.method == "awq":
            return _unpack_outputs(self.qweight, start, stop, _INTERLEAVED)
        packed = self.qweight[:, None, start:stop] >> _IN_ORDER[:, None]
        return (packed & _NIBBLE).reshape(-1, stop - start)

    def _zeros(self, start: int, stop: int) -> Integers:
        order = _INTERLEAVED if self.packing.method == "awq" else _IN_ORDER
        offset = np.uint32(self.packing.zero_offset * _ONES)
        return _unpack_outputs(self.qzeros + offset, start, stop, order)


def _unpack_outputs(packed: Integers, start: int, stop: int, shifts: Integers) -> Integers:
    """Columns `start` to `stop` - 1 of what eight neighbours in a row share an integer."""
    first = start // PER_INTEGER
    block = packed[:, first : -(-stop // PER_INTEGER), None] >> shifts
    flat = (block & _NIBBLE).reshape(len(packed), -1)
    return flat[:, start - first * PER_INTEGER : stop - first * PER_INTEGER]
