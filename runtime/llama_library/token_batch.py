"""A batch's arrays, which llama.cpp reads where they lie."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from runtime.llama_library.library import LlamaLibrary
from runtime.llama_library.results import Floats32
from runtime.llama_library.values import BatchArrays

_POINTER_BYTES = np.dtype(np.uintp).itemsize


class TokenBatch:
    """At most `max_tokens` tokens, each for at most `max_ids` sequences. `data` is the library's
    own form of it. With a `width`, the batch has vectors of so many numbers in the place of token
    ids."""

    def __init__(
        self, library: LlamaLibrary, *, max_tokens: int, max_ids: int, width: int = 0
    ) -> None:
        self._token = np.zeros(max_tokens, np.int32)
        self._vectors = np.zeros((max_tokens if width else 0, width), np.float32)
        self._position = np.zeros(max_tokens, np.int32)
        self._num_ids = np.zeros(max_tokens, np.int32)
        self._ids = np.zeros((max_tokens, max_ids), np.int32)
        self._wanted = np.zeros(max_tokens, np.int8)
        rows = np.arange(max_tokens, dtype=np.uintp) * np.uintp(self._ids.strides[0])
        self._pointers = rows + np.uintp(self._ids.ctypes.data)
        assert self._pointers.itemsize == _POINTER_BYTES, "pointers need their own width"
        self.data: Any = library.new_batch(
            BatchArrays(
                token=0 if width else self._token.ctypes.data,
                vectors=self._vectors.ctypes.data if width else 0,
                position=self._position.ctypes.data,
                num_ids=self._num_ids.ctypes.data,
                ids=self._pointers.ctypes.data,
                wanted=self._wanted.ctypes.data,
            )
        )
        self.num_tokens = 0

    def clear(self) -> None:
        """Begin a new batch."""
        self.num_tokens = self.data.n_tokens = 0

    def put(
        self, token_ids: Sequence[int], position: int, sequence_ids: Sequence[int], *, wanted: bool
    ) -> None:
        """Append tokens that stand at `position` and after it in all these sequences; `wanted` says
        whether their results are."""
        start, end = self.num_tokens, self.num_tokens + len(token_ids)
        self._token[start:end] = token_ids
        self._put(start, end, position, sequence_ids, wanted)

    def put_vectors(self, vectors: Floats32, sequence_id: int) -> None:
        """Append a whole text of a sequence by its tokens' vectors, whose results are wanted."""
        start, end = self.num_tokens, self.num_tokens + len(vectors)
        self._vectors[start:end] = vectors
        self._put(start, end, 0, (sequence_id,), True)

    def _put(
        self, start: int, end: int, position: int, sequence_ids: Sequence[int], wanted: bool
    ) -> None:
        self._position[start:end] = range(position, position + end - start)
        self._num_ids[start:end] = len(sequence_ids)
        self._ids[start:end, : len(sequence_ids)] = sequence_ids
        self._wanted[start:end] = wanted
        self.num_tokens = self.data.n_tokens = end

    def want(self, row: int) -> None:
        """Ask for the result of a row."""
        self._wanted[row] = 1
