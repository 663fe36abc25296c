"""How far what was written is from what was meant."""

import numpy as np
from msgspec import Struct

from convert.source import Rows


class Difference(Struct, frozen=True):
    """`error` is |written - meant| / |meant|, `cosine` the cosine between the two."""

    error: float
    cosine: float


class DifferenceMeter:
    """Adds up blocks of one tensor."""

    def __init__(self) -> None:
        self._error = self._meant = self._written = self._product = 0.0

    def add(self, meant: Rows, written: Rows) -> None:
        self._error += _dot(written - meant, written - meant)
        self._meant += _dot(meant, meant)
        self._written += _dot(written, written)
        self._product += _dot(meant, written)

    def result(self) -> Difference:
        if not self._meant:
            return Difference(0.0 if not self._error else float("inf"), 1.0)
        norms = float(np.sqrt(self._meant) * np.sqrt(self._written))
        cosine = self._product / norms if norms else 0.0
        return Difference(float(np.sqrt(self._error / self._meant)), min(cosine, 1.0))


def _dot(one: Rows, other: Rows) -> float:
    # not BLAS, whose own threads would wait for each other beside ours
    return float(np.einsum("ij,ij->i", one, other).sum(dtype=np.float64))
