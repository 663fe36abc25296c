"""Vectors without a model: the same tokens have the same vector, others another one."""

import hashlib
import math
import random
import struct
from collections.abc import Sequence

from runtime.engines.base import EmbeddingKey

WIDTH = 32
"""Numbers in a vector."""

MAX_BATCH = 64
"""Inputs that are computed in one step."""


class ScriptedEmbedder:
    """Implements `Embedder`. A vector depends on the token ids alone, order included."""

    def __init__(self, max_tokens: int, vocab_size: int) -> None:
        self.max_tokens = max_tokens
        self.vocab_size = vocab_size
        self._inputs: dict[EmbeddingKey, Sequence[int]] = {}
        self._num_tokens = 0

    def open(self) -> None:
        pass  # nothing is needed

    def can_add(self, num_tokens: int) -> bool:
        return len(self._inputs) < MAX_BATCH

    def add(self, key: EmbeddingKey, token_ids: Sequence[int]) -> None:
        self._inputs[key] = token_ids

    def remove(self, key: EmbeddingKey) -> None:
        self._inputs.pop(key, None)

    def step(self, seconds: float) -> list[tuple[EmbeddingKey, bytes]]:
        inputs, self._inputs = self._inputs, {}
        self._num_tokens += sum(map(len, inputs.values()))
        return [(key, scripted_vector(token_ids)) for key, token_ids in inputs.items()]

    def take_num_tokens(self) -> int:
        num_tokens, self._num_tokens = self._num_tokens, 0
        return num_tokens


def scripted_vector(token_ids: Sequence[int]) -> bytes:
    """The vector of these tokens, as in `runtime.messages.wire.Embedded`: a random direction."""
    digest = hashlib.sha256(" ".join(map(str, token_ids)).encode()).digest()
    dice = random.Random(digest)
    values = [dice.gauss() for _ in range(WIDTH)]
    length = math.hypot(*values)
    return struct.pack(f"<{WIDTH}f", *(value / length for value in values))
