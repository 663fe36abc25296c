"""Statistics of a layer's inputs for the searches, without a second copy of the inputs.

A calibration text's inputs are the largest thing in memory: for down_proj as many values as tokens
times the width of the feed-forward part.
"""

from collections.abc import Iterator

import numpy as np

from convert.target.recipe import INT4_GROUP
from convert.tensors.source_tensor import Rows

_PART = 512


class Inputs:
    """The inputs `x` of shape (tokens, in), tokens of more than the median length shortened to it.

    The first token of a text, and a few others, have inputs that are hundreds of times as large as
    all others'. Their share of the output is divided by as much in the next norm, but without this
    they alone would decide.
    """

    def __init__(self, x: Rows) -> None:
        self._x = x
        lengths = np.sqrt(np.einsum("ij,ij->i", x, x))
        middle = max(float(np.median(lengths)), 1e-12)
        factors = np.minimum(1, middle / np.maximum(lengths, 1e-12))
        self._factors = factors.astype(np.float32)[:, None]

    def mean(self) -> Rows:
        """The mean magnitude of each input, of shape (in,)."""
        total = np.zeros(self._x.shape[1], dtype=np.float64)
        for part in token_parts(len(self._x)):
            total += np.abs(self.tokens(part)).sum(axis=0)
        result: Rows = (total / len(self._x)).astype(np.float32)
        return result

    def tokens(self, chosen: slice) -> Rows:
        """Some of the tokens."""
        result: Rows = self._x[chosen] * self._factors[chosen]
        return result

    def gram(self, divisor: Rows) -> Rows:
        """The Gram matrix of each input group, after division by `divisor` (in,), over all tokens.

        Its shape is (in / 128, 128, 128).
        """
        count = self._x.shape[1] // INT4_GROUP
        total = np.zeros((count, INT4_GROUP, INT4_GROUP), dtype=np.float32)
        for part in token_parts(len(self._x)):
            x = self.tokens(part)
            x /= divisor
            groups = x.reshape(len(x), count, INT4_GROUP).transpose(1, 0, 2)
            total += np.matmul(groups.transpose(0, 2, 1), groups)
        return total

    def __len__(self) -> int:
        return len(self._x)


def token_parts(count: int) -> Iterator[slice]:
    """Splits the tokens into parts that are small beside the whole."""
    for start in range(0, count, _PART):
        yield slice(start, start + _PART)
