"""What becomes of a text that a context reads: a vector, or a reranker's score."""

from typing import Protocol

import numpy as np

from runtime.engines.llama_cpp.embedding.pooling import Pool, find_pooling
from runtime.engines.llama_cpp.weights import LlamaWeights
from runtime.errors import SetupError
from runtime.llama_library.results import floats_at
from runtime.messages.engine import Scoring


class Result(Protocol):
    """The result of one text, which may be read in several pieces."""

    def push(self, context: int, slot: int, rows: range) -> None:
        """The next piece of the text has been computed: these rows of the context's last batch, of
        the sequence `slot`."""
        ...

    def data(self) -> bytes:
        """The result, as in `runtime.messages.wire.Embedded`, once the whole text has been read."""
        ...


class Vector:
    """A `Result`: the vector of a text, pooled from those of its tokens."""

    def __init__(self, weights: LlamaWeights) -> None:
        self._library = weights.library
        self._width = weights.shape.embedding_width
        self._pool = Pool(find_pooling(weights.pooling_type))

    def push(self, context: int, slot: int, rows: range) -> None:
        addresses = [self._library.embedding(context, row) for row in rows]
        assert all(addresses), "no vector was asked for in a row: this is a bug"
        self._pool.push(np.stack([floats_at(each, self._width) for each in addresses]))

    def data(self) -> bytes:
        return self._pool.vector()


class Score:
    """A `Result`: the score of a query and a document that a reranker has read as one text."""

    def __init__(self, weights: LlamaWeights) -> None:
        self._library = weights.library
        self._num_labels = weights.shape.num_labels
        self._score = np.zeros(1, "<f4")

    def push(self, context: int, slot: int, rows: range) -> None:
        address = self._library.ranks(context, slot)
        assert address, "no score was computed for a text: this is a bug"
        self._score[0] = floats_at(address, self._num_labels)[0]

    def data(self) -> bytes:
        return self._score.tobytes()


def find_scoring(weights: LlamaWeights) -> Scoring:
    """How the model compares two texts. Raises SetupError for one that sorts texts into classes.

    A Qwen3 reranker has two labels, yes and no, and llama.cpp makes probabilities of them.
    """
    if not weights.ranks:
        return "cosine" if weights.pooling_type else "none"
    num_labels = weights.shape.num_labels
    if num_labels == 1:
        return "logit"
    if num_labels == 2 and weights.architecture.startswith("qwen3"):
        return "probability"
    raise SetupError(
        f"This model sorts texts into {num_labels} classes. Lockgate serves rerankers, which have"
        " one score for a query and a document."
    )
