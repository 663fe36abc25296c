"""Embeddings and rerankers' scores: a llama.cpp context with no more memory than it needs, for a
model that generates a second one over the same weights.

The first embedding request creates the context, so other workloads do not pay for it. A generative
model reads a text in pieces, sized so that streams are not delayed. An encoder reads a text in one
piece, because its tokens attend in both directions.
"""

import contextlib
import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from runtime.config.engine import EngineConfig
from runtime.engines.base import MAX_EMBEDDING_TOKENS, EmbeddingKey
from runtime.engines.llama_cpp.embedding.results import Result, Score, Vector
from runtime.engines.llama_cpp.embedding.segments import find_segment_inputs
from runtime.engines.llama_cpp.weights import LlamaWeights
from runtime.errors import EngineError
from runtime.llama_library.token_batch import TokenBatch
from runtime.llama_library.values import ContextOptions, FlashAttention

MAX_INPUTS = 16
"""Texts in one batch."""

_SPARE_SLOT = MAX_INPUTS
"""The sequence of a token that only makes a batch longer."""

MAX_ROWS = 128
"""Tokens that a generative model computes at once. llama.cpp keeps a row of logits for each,
needed or not; a row is as long as the vocabulary."""

MAX_PLAIN_ATTENTION = 2048
"""Tokens up to which an encoder's attention scores are kept as a whole, which is faster."""

MIN_TOKENS = 4
"""Minimum number of tokens in a step, however slow the machine."""

SMOOTHING = 0.3
"""Weight of the newest measurement of a token's time."""

CELL_MULTIPLE = 256
"""llama.cpp pads the context to multiples of this."""


class _Input:
    """A text that is being read."""

    def __init__(
        self, key: EmbeddingKey, token_ids: Sequence[int], slot: int, result: Result
    ) -> None:
        self.key = key
        self.token_ids = token_ids
        self.slot = slot
        self.result = result
        self.num_read = 0

    @property
    def num_left(self) -> int:
        return len(self.token_ids) - self.num_read


class _Piece(Struct, frozen=True):
    """A run of tokens of one text, which are these rows of the batch."""

    input: _Input
    rows: range


class LlamaEmbedder:
    """Implements `Embedder` on llama.cpp: vectors, or the scores of a reranker. `max_model_len` is
    the longest text in tokens, at most `MAX_EMBEDDING_TOKENS`."""

    def __init__(self, config: EngineConfig, weights: LlamaWeights, max_model_len: int) -> None:
        self._weights = weights
        self._library = weights.library
        self._is_gpu = bool(config.llama_cpp.num_gpu_layers)
        self.max_tokens = min(max_model_len, MAX_EMBEDDING_TOKENS)
        self.vocab_size = weights.shape.num_vocab
        self.width = weights.shape.embedding_width
        self._num_cells = -(-self.max_tokens // CELL_MULTIPLE) * CELL_MULTIPLE
        is_whole = not weights.is_causal
        self._max_rows = self._num_cells if is_whole else min(MAX_ROWS, self._num_cells)
        self._is_whole = is_whole
        self._wrong_rows = self._library.traits.wrong_rows
        self._new_result: Callable[[LlamaWeights], Result] = Score if weights.ranks else Vector
        self._inputs: dict[EmbeddingKey, _Input] = {}
        self._slots = list(range(MAX_INPUTS))
        self._token_seconds = 0.0
        self._num_tokens = 0
        self._closing = contextlib.ExitStack()
        self._context = 0

    def open(self) -> None:
        if not self._context:
            self._context = self._create_context()
            self._closing.callback(self._library.free_context, self._context)
            self._segments = find_segment_inputs(self._weights.file)
            self._batch = TokenBatch(
                self._library,
                max_tokens=self._max_rows,
                max_ids=1,
                width=0 if self._segments is None else self._segments.width,
            )

    def can_add(self, num_tokens: int) -> bool:
        used = sum(len(each.token_ids) for each in self._inputs.values())
        return bool(self._slots) and used + num_tokens <= self._num_cells

    def add(self, key: EmbeddingKey, token_ids: Sequence[int]) -> None:
        result = self._new_result(self._weights)
        self._inputs[key] = _Input(key, token_ids, self._slots.pop(), result)

    def remove(self, key: EmbeddingKey) -> None:
        removed = self._inputs.pop(key, None)
        if removed is None:
            return
        self._slots.append(removed.slot)
        self._library.remove(self._context, removed.slot, -1, -1)

    def step(self, seconds: float) -> list[tuple[EmbeddingKey, bytes]]:
        pieces = self._fill(self._budget(seconds))
        if not pieces:
            return []
        started = time.perf_counter()
        status = self._library.decode(self._context, self._batch.data)
        if status != 0:
            raise EngineError(
                f"llama_decode failed with status {status}. {self._library.last_messages()}"
            )
        done = [each for each in map(self._read, pieces) if each is not None]
        self._learn(self._batch.num_tokens, time.perf_counter() - started)
        return done

    def take_num_tokens(self) -> int:
        num_tokens, self._num_tokens = self._num_tokens, 0
        return num_tokens

    def close(self) -> None:
        """Free what llama.cpp allocated."""
        self._closing.close()

    def _budget(self, seconds: float) -> int:
        if not self._token_seconds:
            return MIN_TOKENS
        return min(max(MIN_TOKENS, int(seconds / self._token_seconds)), self._max_rows)

    def _fill(self, budget: int) -> list[_Piece]:
        """The next tokens of all texts, in the order in which they were added. A text that must
        be read in one piece may exceed the budget if it is the first."""
        pieces: list[_Piece] = []
        self._batch.clear()
        for each in self._inputs.values():
            room = budget - self._batch.num_tokens
            if self._is_whole:
                num_tokens = each.num_left if not pieces or each.num_left <= room else 0
            else:
                num_tokens = min(each.num_left, room)
            if num_tokens <= 0:
                break
            first_row = self._batch.num_tokens
            self._put(each, num_tokens)
            pieces.append(_Piece(each, range(first_row, first_row + num_tokens)))
        if self._is_whole and pieces and self._batch.num_tokens == self._wrong_rows:
            self._batch.put((0,), 0, (_SPARE_SLOT,), wanted=True)
        return pieces

    def _put(self, each: _Input, num_tokens: int) -> None:
        if self._segments is not None:
            self._batch.put_vectors(self._segments.vectors(each.token_ids), each.slot)
            return
        token_ids = each.token_ids[each.num_read : each.num_read + num_tokens]
        self._batch.put(token_ids, each.num_read, (each.slot,), wanted=True)

    def _read(self, piece: _Piece) -> tuple[EmbeddingKey, bytes] | None:
        """Take a piece's part of the result. Returns the result if it was the last piece."""
        each = piece.input
        each.result.push(self._context, each.slot, piece.rows)
        each.num_read += len(piece.rows)
        if each.num_left:
            return None
        self.remove(each.key)
        return each.key, each.result.data()

    def _learn(self, num_tokens: int, seconds: float) -> None:
        self._num_tokens += num_tokens
        newest = seconds / num_tokens
        old = self._token_seconds or newest
        self._token_seconds = old + SMOOTHING * (newest - old)

    def _create_context(self) -> int:
        options = ContextOptions(
            num_cells=self._num_cells,
            max_batch=self._max_rows,
            max_rows=self._max_rows,
            max_sequences=MAX_INPUTS + 1,
            num_threads=self._weights.num_threads,
            flash_attention=self._flash_attention(),
            embeddings=True,
            ranks=self._weights.ranks,
        )
        context = self._library.new_context(self._weights.model, options)
        if not context:
            raise EngineError(
                f"llama.cpp cannot set up texts of {self.max_tokens} tokens: lower"
                f" engine.max_model_len. {self._library.last_messages()}"
            )
        return context

    def _flash_attention(self) -> FlashAttention:
        is_long = self._is_whole and self.max_tokens > MAX_PLAIN_ATTENTION
        wants = (self._is_gpu or is_long) and self._library.traits.can_choose_attention
        return "auto" if wants else "off"
