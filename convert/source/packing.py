"""Integers of 4 bits as AutoAWQ and AutoGPTQ pack them: eight in an int32. GPTQ has 8 bits, too.

A weight of shape (out, in), with G groups of inputs, is stored as:

AWQ (version GEMM)  `qweight` [in, out / 8]: eight outputs in an integer, in the order
                    0 2 4 6 1 3 5 7 from the low bits up; `qzeros` [G, out / 8], the same way.
GPTQ                `qweight` [in / 8, out]: eight inputs in an integer, in order;
                    `qzeros` [G, out / 8]: eight outputs in an integer, in order; except in
                    `gptq_v2`, 0x11111111 was subtracted from the integer; `g_idx` [in], which may
                    be missing, is the group of each input.
                    With 8 bits an integer has four values, and 0x01010101 was subtracted.

Both have `scales` [G, out]. A value is (q - zero) * scale, with the zero and scale of its output
and its group (autoawq, utils/packing_utils; AutoGPTQ, nn_modules/qlinear; GPTQModel for v2).
"""

from typing import Literal

import numpy as np
import numpy.typing as npt
from msgspec import Struct

Method = Literal["awq", "gptq"]
Integers = npt.NDArray[np.uint32]
Rows = npt.NDArray[np.float32]

_INTEGER_BITS = 32
# bit shifts of AWQ's outputs 0 to 7: the inverse of the order 0 2 4 6 1 3 5 7
_INTERLEAVED = np.array([0, 4, 1, 5, 2, 6, 3, 7], dtype=np.uint32) * np.uint32(4)


class Packing(Struct, frozen=True):
    """How a checkpoint is packed. `group_size` is in inputs; -1 is one group of all inputs. `bits`
    is 4 for AWQ, and 4 or 8 for GPTQ.

    `zero_offset` is added to each stored zero point. It is added to the packed integer as a whole:
    when the packer subtracted one, a zero point of 0 borrowed from its neighbor.
    """

    method: Method
    group_size: int
    zero_offset: int = 0
    bits: int = 4

    @property
    def per_integer(self) -> int:
        """Number of values in one packed integer."""
        return _INTEGER_BITS // self.bits

    @property
    def symmetric_zero(self) -> int:
        """The zero point in the middle of the grid, such as 8 for the levels 0 to 15."""
        return 1 << (self.bits - 1)

    @property
    def mask(self) -> np.uint32:
        """The bits of the lowest value in a packed integer."""
        return np.uint32((1 << self.bits) - 1)

    @property
    def in_order(self) -> Integers:
        """The bit shift of each value in a packed integer."""
        return np.arange(self.per_integer, dtype=np.uint32) * np.uint32(self.bits)

    def num_groups(self, num_inputs: int) -> int:
        """Number of groups of a weight with that many inputs; the last group may be shorter."""
        return -(-num_inputs // self.inputs_per_group(num_inputs))

    def inputs_per_group(self, num_inputs: int) -> int:
        """Number of inputs in a group of a weight with that many inputs."""
        return num_inputs if self.group_size == -1 else self.group_size


class PackedTensor(Struct, frozen=True):
    """The arrays of one packed weight. `groups` [in] is the group of each input."""

    packing: Packing
    qweight: Integers
    qzeros: Integers
    scales: Rows
    groups: npt.NDArray[np.int64]

    def rows(self, start: int, stop: int) -> Rows:
        """The exact values of outputs `start` to `stop` - 1, of shape (outputs, inputs)."""
        levels = self._levels(start, stop).astype(np.float32)
        zeros = self._zeros(start, stop).astype(np.float32)
        with np.errstate(all="ignore"):  # damaged scales may be infinite
            levels -= zeros[self.groups]
            levels *= self.scales[self.groups, start:stop]
        return np.ascontiguousarray(levels.T)

    def num_uneven_zeros(self) -> int:
        """Number of zero points that are not in the middle of the grid."""
        zeros = self._zeros(0, self.scales.shape[1])
        return int(np.count_nonzero(zeros != self.packing.symmetric_zero))

    def _levels(self, start: int, stop: int) -> Integers:
        if self.packing.method == "awq":
            return self._unpack_outputs(self.qweight, start, stop)
        packed = self.qweight[:, None, start:stop] >> self.packing.in_order[:, None]
        return (packed & self.packing.mask).reshape(-1, stop - start)

    def _zeros(self, start: int, stop: int) -> Integers:
        one_each = np.bitwise_or.reduce(np.uint32(1) << self.packing.in_order)
        offset = np.uint32(self.packing.zero_offset) * one_each
        return self._unpack_outputs(self.qzeros + offset, start, stop)

    def _unpack_outputs(self, packed: Integers, start: int, stop: int) -> Integers:
        """Columns `start` to `stop` - 1 of an array whose integers pack neighboring columns of a
        row."""
        shifts = _INTERLEAVED if self.packing.method == "awq" else self.packing.in_order
        count = self.packing.per_integer
        first = start // count
        block = packed[:, first : -(-stop // count), None] >> shifts
        flat = (block & self.packing.mask).reshape(len(packed), -1)
        return flat[:, start - first * count : stop - first * count]
