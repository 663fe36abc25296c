"""From the vectors of a text's tokens to the text's own: a piece at a time. Pure.

llama.cpp can pool too, but only within one batch; a text that is read in pieces needs the sum of
all of them.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from runtime.errors import SetupError
from runtime.llama_library.results import Floats32

Pooling = Literal["mean", "cls", "last"]

_BY_NUMBER: dict[int, Pooling] = {0: "mean", 1: "mean", 2: "cls", 3: "last"}
"""By the number in a model file's `pooling_type` (llama.h, LLAMA_POOLING_TYPE_*). A file with 0, or
without `pooling_type`, is of a model not made for embeddings; its tokens' mean is used."""


def find_pooling(number: int) -> Pooling:
    """The pooling that a model file asks for. Raises SetupError for a kind that is not known."""
    pooling = _BY_NUMBER.get(number)
    if pooling is None:
        raise SetupError(
            "This model does not make embeddings: its file asks for another kind of output"
            f" (pooling_type {number}).",
        )
    return pooling


class Pool:
    """Takes the rows of one text, in order."""

    def __init__(self, pooling: Pooling) -> None:
        self._pooling = pooling
        self._vector: NDArray[np.float64] | None = None

    def push(self, rows: Floats32) -> None:
        """The next tokens' vectors, one per row; at least one row."""
        if self._pooling == "last":
            self._vector = rows[-1].astype(np.float64)
        elif self._vector is None:
            first = rows[0] if self._pooling == "cls" else rows.sum(axis=0, dtype=np.float64)
            self._vector = first.astype(np.float64)
        elif self._pooling == "mean":
            self._vector += rows.sum(axis=0, dtype=np.float64)

    def vector(self) -> bytes:
        """The vector scaled to length 1, so a sum and a mean are equal; as in
        `runtime.messages.wire.Embedded`."""
        assert self._vector is not None, "nothing was pushed: this is a bug"
        length = float(np.linalg.norm(self._vector))
        return (self._vector / (length or 1.0)).astype("<f4").tobytes()
