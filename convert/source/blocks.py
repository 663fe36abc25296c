"""Reads the values of a weight in blocks of rows, in the order of Hugging Face's model."""

from collections.abc import Iterator
from math import lcm

import numpy as np

from convert.tensors.source_tensor import Rows, Source
from convert.tensors.weights import Weight
from runtime.errors import ModelFileError

# A megabyte of float32: small enough for a core's cache, and large enough that threads seldom wait
# for the interpreter's lock.
_BLOCK_VALUES = 1 << 18
# int4 packs two rows into one row of bytes
_ROW_UNIT = 2


def read_blocks(source: Source, weight: Weight) -> Iterator[Rows]:
    """The rows of a weight, in order, in blocks of shape (rows, columns); a vector is one row.

    A block is valid only until the next one is requested.

    Raises ModelFileError, naming the tensor, for values that are not finite.
    """
    vector_head = weight.head_dim and len(weight.shape) == 1
    with source.open_tensor(weight.source) as reader:
        row_length = reader.tensor.row_length
        stop = weight.first_row + weight.num_rows
        unit = lcm(_ROW_UNIT, weight.head_dim if weight.head_dim and not vector_head else 1)
        step = max(1, _BLOCK_VALUES // max(1, row_length) // unit) * unit
        for start in range(weight.first_row, stop, step):
            rows = reader.read(start, min(start + step, stop))
            check_finite(rows, weight.source)
            yield _arranged(rows, weight)


def check_finite(rows: Rows, name: str) -> None:
    """Raises ModelFileError for NaN and infinity, which would spoil every answer."""
    if not np.isfinite(rows).all():
        raise ModelFileError(f"{name}: some of its values are not finite numbers.")


def _arranged(rows: Rows, weight: Weight) -> Rows:
    if weight.shift:
        rows = rows + np.float32(weight.shift)
    if not weight.head_dim:
        return rows
    shape = rows.shape
    columns = 1 if len(weight.shape) == 1 else shape[1]
    pairs = rows.reshape(-1, weight.head_dim // 2, 2, columns)
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(shape)
