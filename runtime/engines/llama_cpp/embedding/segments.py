"""The inputs of a BERT that tells its second text from its first.

Such a reranker has a vector for each segment, the query and the document, and adds it to those of
the segment's tokens. llama.cpp adds the first segment's vector to all tokens. A context can be
given vectors in the place of tokens: those of the second segment's have the difference in them.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

from runtime.llama_library.results import Floats32
from runtime.models.gguf import GGUFFile, TensorInfo

_NUM_SEGMENTS = 2

_Rows: TypeAlias = NDArray[np.uint8]


class SegmentInputs:
    """The vectors that stand for the tokens of a query and a document, which `separator` parts."""

    def __init__(self, file: GGUFFile, tokens: TensorInfo, segments: TensorInfo, separator: int):
        self._tokens, self._kind = _rows(file, tokens), GGMLQuantizationType[tokens.type]
        first, second = dequantize(_rows(file, segments), GGMLQuantizationType[segments.type])[:2]
        self._difference = second - first
        self._separator = separator
        self.width = tokens.shape[0]

    def vectors(self, token_ids: Sequence[int]) -> Floats32:
        """One row for each token of a whole text."""
        ids = np.asarray(token_ids)
        vectors: Floats32 = dequantize(self._tokens[ids], self._kind).astype(np.float32)
        [separators] = np.nonzero(ids == self._separator)
        if separators.size:
            vectors[separators[0] + 1 :] += self._difference
        return vectors


def find_segment_inputs(file: GGUFFile) -> SegmentInputs | None:
    """None for a model whose texts are all of one segment, as those are that are no BERT."""
    tensors = {tensor.name: tensor for tensor in file.tensors}
    tokens, segments = tensors.get("token_embd.weight"), tensors.get("token_types.weight")
    separator = file.number("tokenizer.ggml.seperator_token_id")
    if not file.ranks or file.text("tokenizer.ggml.model") != "bert" or separator is None:
        return None
    if file.flag(f"{file.text('general.architecture')}.attention.causal", True):
        return None
    if tokens is None or segments is None or segments.shape[-1] < _NUM_SEGMENTS:
        return None
    return SegmentInputs(file, tokens, segments, separator)


def _rows(file: GGUFFile, tensor: TensorInfo) -> _Rows:
    """A matrix's rows as they stand in the file, which is mapped."""
    shape = (tensor.shape[1], tensor.num_bytes // tensor.shape[1])
    return np.memmap(file.path, np.uint8, "r", offset=tensor.offset, shape=shape)
