"""llama.cpp's context for generation behind a few calls, through the low-level C API."""

import contextlib
import ctypes
from collections.abc import Sequence
from typing import cast

import llama_cpp
import numpy as np

from runtime.config.engine import EngineConfig
from runtime.engines.llama_cpp.kv.kv_cache import BLOCK_TOKENS
from runtime.engines.llama_cpp.kv.prefix_tree import Block
from runtime.engines.llama_cpp.sampling.top_k import Floats
from runtime.engines.llama_cpp.scheduler import Batch
from runtime.engines.llama_cpp.weights import LlamaWeights, last_messages
from runtime.errors import EngineError

KV_MEMORY_SHARE = 0.4
"""Of the memory that the weights leave, how much "auto" gives to the KV cache."""

PREFIX_MEMORY_SHARE = 0.1
"""Of the memory that weights and KV cache leave, how much "auto" gives to copies of prefixes that
no running sequence uses."""

RESERVED_BYTES = 250_000_000
"""Memory that "auto" leaves to the vocabulary, to logits and grammars, and to the gateway, which
loads its tokenizer at the same time."""

MIN_AUTO_TOKENS = 4096
"""The least that "auto" gives to the KV cache: a conversation. If even that is too much, the kernel
reads a part of the weights again and again, which is slow and works."""

MIN_AUTO_PREFIX_BYTES = 25_000_000
"""The least that "auto" gives to copies of prefixes."""

WARM_UP_TOKENS = 32
"""Enough that llama.cpp takes its kernels for many rows as well as those for one."""

CELL_MULTIPLE = 256
"""llama.cpp pads the context to multiples of this."""

MAX_SEQUENCE_IDS = 256
"""LLAMA_MAX_SEQ: how many sequence ids llama.cpp can tell apart in one cache."""

MAX_ROWS = 128
"""Rows that the processor computes at once; larger batches are split. More gains no speed, and the
memory for attention scores, 4 bytes for each row, cell and head, grows with it."""

CHUNKED_WINDOWS = frozenset({"llama4"})
"""Architectures whose local attention works in chunks of a fixed number of tokens."""


class LlamaModel:
    """One context for many sequences, over weights that are loaded. Not thread-safe."""

    def __init__(self, config: EngineConfig, weights: LlamaWeights) -> None:
        self._weights = weights
        self._max_num_batched_tokens = config.max_num_batched_tokens
        self._closing = contextlib.ExitStack()
        self._model = weights.model
        self.vocab = weights.vocab
        self.num_vocab = weights.num_vocab
        self.max_model_len, self.num_cells = self._sizes(config)
        self.num_slots = config.max_num_seqs
        window: int = llama_cpp.llama_model_n_swa(self._model)
        self._ids_per_slot = 2 if window else 1
        # llama.cpp omits from a copy the cells that the window of the copy's last token has passed.
        self.block_tokens = min(BLOCK_TOKENS, window) if window else BLOCK_TOKENS
        self._transit_id = self.num_slots * self._ids_per_slot
        self.can_share = self._can_share(config)
        if not self.can_share:
            self._ids_per_slot = 1
        self.context = self._create_context(config)
        self._closing.callback(llama_cpp.llama_free, self.context)
        self._memory = llama_cpp.llama_get_memory(self.context)
        self._batch = llama_cpp.llama_batch_init(
            config.max_num_batched_tokens, 0, self._ids_per_slot * self.num_slots
        )
        self._closing.callback(llama_cpp.llama_batch_free, self._batch)
        self._warm_up()

    def eog_token_ids(self) -> frozenset[int]:
        """Every token that ends a generation, as llama.cpp sees it."""
        return frozenset(
            token_id
            for token_id in range(self.num_vocab)
            if llama_cpp.llama_vocab_is_eog(self.vocab, token_id)
        )

    def remove(self, slot: int) -> None:
        """Take all cells away from a slot."""
        for sequence_id in self._sequence_ids(slot):
            self._cut(sequence_id, 0, -1)

    def share(self, source: int, target: int, start: int, end: int) -> None:
        """Give `target` the cells that `source` has at positions `start` to `end`."""
        for target_id in self._sequence_ids(target):
            llama_cpp.llama_memory_seq_cp(self._memory, source, target_id, start, end)

    def save(self, slot: int, start: int, end: int) -> bytes:
        """A copy of the contents of a slot's cells at positions `start` to `end`."""
        llama_cpp.llama_memory_seq_cp(self._memory, slot, self._transit_id, start, end)
        size = llama_cpp.llama_state_seq_get_size(self.context, self._transit_id)
        buffer = (ctypes.c_uint8 * size)()
        written = llama_cpp.llama_state_seq_get_data(self.context, buffer, size, self._transit_id)
        self._cut(self._transit_id, 0, -1)
        if written != size:
            raise EngineError(f"llama.cpp copied {written} bytes of the KV cache, not {size}.")
        return bytes(buffer)

    def load(self, slot: int, block: Block, start: int, end: int) -> None:
        """Fill new cells of a slot at positions `start` to `end`, which the block covers."""
        size = len(block.data)
        buffer = (ctypes.c_uint8 * size).from_buffer_copy(block.data)
        read = llama_cpp.llama_state_seq_set_data(self.context, buffer, size, self._transit_id)
        if read != size:
            raise EngineError(f"llama.cpp took {read} bytes into the KV cache, not {size}.")
        for sequence_id in self._sequence_ids(slot):
            llama_cpp.llama_memory_seq_cp(self._memory, self._transit_id, sequence_id, start, end)
        self._cut(self._transit_id, 0, -1)

    def logits(self, row: int) -> Floats:
        """A view into llama.cpp's memory, of `num_vocab` values; valid until the next step."""
        pointer = llama_cpp.llama_get_logits_ith(self.context, row)
        assert pointer, "no logits were asked for in this row: this is a bug"
        return np.ctypeslib.as_array(pointer, shape=(self.num_vocab,))

    def decode(self, batch: Batch) -> list[int]:
        """Compute a batch. Returns the row of every chunk's last token, in order.

        A chunk that samples has logits in its last row; a chunk that scores its prompt has logits
        in all its rows.

        Raises EngineError when llama.cpp refuses the batch.
        """
        rows = self._fill(batch)
        status = llama_cpp.llama_decode(self.context, self._batch)
        if status != 0:
            raise EngineError(
                f"llama_decode failed with status {status}. {' '.join(last_messages())}"
            )
        return rows

    def close(self) -> None:
        """Free everything that llama.cpp allocated."""
        self._closing.close()

    def _warm_up(self) -> None:
        """Compute a small prompt and one token after it: pages the weights in. A build of
        llama.cpp whose fast kernels do not work on this processor crashes here, where the
        supervisor can handle the crash."""
        num_tokens = min(WARM_UP_TOKENS, self._max_num_batched_tokens)
        for start, stop in ((0, num_tokens), (num_tokens, num_tokens + 1)):
            self._clear_batch()
            for position in range(start, stop):
                self._put(0, position, (0,))
            status = llama_cpp.llama_decode(self.context, self._batch)
            if status != 0:
                raise EngineError(f"The first llama_decode failed with status {status}.")
        llama_cpp.llama_memory_clear(self._memory, True)

    def _fill(self, batch: Batch) -> list[int]:
        self._clear_batch()
        rows: list[int] = []
        for chunk in batch.chunks:
            slots = [sequence.slot for sequence in chunk.sequences]
            token_ids = chunk.sequences[0].token_ids
            ids = [each for slot in slots for each in self._sequence_ids(slot)]
            for position in range(chunk.start, chunk.end):
                self._put(token_ids[position], position, ids, has_logits=chunk.scores)
            rows.append(self._batch.n_tokens - 1)
            if chunk.samples:
                self._batch.logits[rows[-1]] = 1
        return rows

    def _clear_batch(self) -> None:
        self._batch.n_tokens = 0

    def _put(
        self,
        token_id: int,
        position: int,
        sequence_ids: Sequence[int],
        *,
        has_logits: bool = False,
    ) -> None:
        batch, row = self._batch, self._batch.n_tokens
        batch.token[row] = token_id
        batch.pos[row] = position
        batch.n_seq_id[row] = len(sequence_ids)
        for index, sequence_id in enumerate(sequence_ids):
            batch.seq_id[row][index] = sequence_id
        batch.logits[row] = has_logits
        batch.n_tokens = row + 1

    def _sequence_ids(self, slot: int) -> tuple[int, ...]:
        """llama.cpp's ids for a slot: one, and a second one with sliding windows. llama.cpp
        overwrites a cell that belongs to one sequence id alone and that the window has passed. A
        prefix kept for later sequences needs those cells, and the second id holds them."""
        return (slot,) if self._ids_per_slot == 1 else (slot, slot + self.num_slots)

    def _cut(self, sequence_id: int, start: int, end: int) -> None:
        removed = llama_cpp.llama_memory_seq_rm(self._memory, sequence_id, start, end)
        assert removed, "this kind of memory cannot be cut: this is a bug"

    def _can_share(self, config: EngineConfig) -> bool:
        """Whether prefixes can be reused. They cannot with recurrent layers, whose state has no
        positions; with chunked windows, from which no copy can be cut; or when llama.cpp has too
        few sequence ids, or outputs to set up for them, for that many sequences."""
        num_ids = self._transit_id + 1
        return (
            config.prefix_caching != "off"
            and not llama_cpp.llama_model_is_recurrent(self._model)
            and not llama_cpp.llama_model_is_hybrid(self._model)
            and self._weights.architecture not in CHUNKED_WINDOWS
            and num_ids <= min(MAX_SEQUENCE_IDS, config.max_num_batched_tokens)
        )

    def _sizes(self, config: EngineConfig) -> tuple[int, int]:
        """Longest sequence and cells of the cache, in tokens."""
        trained = llama_cpp.llama_model_n_ctx_train(self._model)
        wanted = trained if config.max_model_len == "auto" else config.max_model_len
        if config.num_kv_tokens != "auto":
            num_cells = config.num_kv_tokens
        elif config.max_model_len != "auto":
            num_cells = config.max_model_len
        else:
            affordable = int(KV_MEMORY_SHARE * self._spare_bytes() / self._bytes_per_cell())
            num_cells = min(wanted, max(affordable, MIN_AUTO_TOKENS))
        num_cells = max(CELL_MULTIPLE, -(-num_cells // CELL_MULTIPLE) * CELL_MULTIPLE)
        return min(wanted, num_cells), num_cells

    def prefix_cache_bytes(self, config: EngineConfig) -> int:
        """Memory in bytes for copies of prefixes that no running sequence uses."""
        if config.prefix_cache_gb != "auto":
            return int(config.prefix_cache_gb * 1e9)
        spare = max(0, self._spare_bytes() - self.num_cells * self._bytes_per_cell())
        return max(int(PREFIX_MEMORY_SHARE * spare), MIN_AUTO_PREFIX_BYTES)

    def _spare_bytes(self) -> int:
        return max(0, self._weights.memory_left - RESERVED_BYTES)

    def _bytes_per_cell(self) -> int:
        """Keys and values of all layers in 16 bits, and the attention scores of one layer."""
        num_all_heads = llama_cpp.llama_model_n_head(self._model)
        head_size = llama_cpp.llama_model_n_embd(self._model) // num_all_heads
        num_heads = llama_cpp.llama_model_n_head_kv(self._model)
        num_layers = llama_cpp.llama_model_n_layer(self._model)
        return int(2 * 2 * num_layers * num_heads * head_size + 4 * MAX_ROWS * num_all_heads)

    def _create_context(self, config: EngineConfig) -> ctypes.c_void_p:
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = self.num_cells + (self.block_tokens if self.can_share else 0)
        params.n_batch = params.n_ubatch = config.max_num_batched_tokens
        params.flash_attn_type = _flash_attention(config)
        if params.flash_attn_type == llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED:
            params.n_ubatch = min(config.max_num_batched_tokens, MAX_ROWS)
        params.n_seq_max = self._transit_id + 1 if self.can_share else self.num_slots
        params.swa_full = True
        params.kv_unified = True
        params.n_threads = params.n_threads_batch = self._weights.num_threads
        params.no_perf = True
        context = llama_cpp.llama_init_from_model(self._model, params)
        if not context:
            raise EngineError(
                f"llama.cpp cannot set up a context of {self.num_cells} tokens: lower"
                f" engine.num_kv_tokens. {' '.join(last_messages())}"
            )
        return cast(ctypes.c_void_p, context)


def _flash_attention(config: EngineConfig) -> int:
    """llama.cpp's number for the kind of attention. On the processor its flash attention takes each
    row by itself while there are fewer than 64: with eight streams at 2,000 tokens a step takes
    three times as long as with the plain kind (docs/performance.md)."""
    wanted = config.llama_cpp.flash_attention
    if wanted == "auto" and config.llama_cpp.num_gpu_layers:
        return cast(int, llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO)
    if wanted is True:
        return cast(int, llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED)
    return cast(int, llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED)
