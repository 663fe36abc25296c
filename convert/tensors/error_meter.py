"""Measures the difference between written and intended values."""

import numpy as np
from msgspec import Struct

from convert.tensors.source_tensor import Rows


class Difference(Struct, frozen=True):
    """`error` is |written - meant| / |meant| with Euclidean norms over the tensor; `cosine` is the
    cosine between the two."""

    error: float
    cosine: float


class DifferenceMeter:
    """Accumulates the difference over the blocks of one tensor."""

    def __init__(self) -> None:
        self._error = self._meant = self._product = 0.0

    def add(self, meant: Rows, written: Rows) -> None:
        """Adds a block. Overwrites `written`, which it uses as a buffer."""
        error = np.subtract(written, meant, out=written)
        self._error += _dot(error, error)
        self._meant += _dot(meant, meant)
        self._product += _dot(meant, error)

    def result(self) -> Difference:
        """The difference over all blocks so far. If all intended values are 0, `error` is the norm
        of the written ones and `cosine` is 1."""
        if not self._meant:
            return Difference(float(np.sqrt(self._error)), 1.0)
        # |written|² and meant · written, with written = meant + error
        written = self._meant + 2 * self._product + self._error
        norms = float(np.sqrt(self._meant * max(written, 0.0)))
        cosine = (self._meant + self._product) / norms if norms else 0.0
        return Difference(float(np.sqrt(self._error / self._meant)), min(cosine, 1.0))


def _dot(one: Rows, other: Rows) -> float:
    # not BLAS: its threads would compete with ours
    return float(np.einsum("ij,ij->i", one, other).sum(dtype=np.float64))
