"""llama.cpp's context for generation behind a few calls."""

import contextlib

from runtime.config.engine import EngineConfig
from runtime.engines.llama_cpp.adapters import LlamaAdapters
from runtime.engines.llama_cpp.kv.kv_cache import BLOCK_TOKENS
from runtime.engines.llama_cpp.kv.prefix_tree import Block
from runtime.engines.llama_cpp.sampling.top_k import Floats
from runtime.engines.llama_cpp.scheduler import Batch
from runtime.engines.llama_cpp.weights import LlamaWeights
from runtime.errors import EngineError
from runtime.llama_library.results import floats_at
from runtime.llama_library.token_batch import TokenBatch
from runtime.llama_library.values import ContextOptions, FlashAttention

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

KEY_AND_VALUE_BYTES = {"f16": 4, "q8_0": 68 / 32, "q4_0": 52 / 32}
"""Bytes of a number of a key and one of a value in the cache."""

MAX_SEQUENCE_IDS = 256
"""LLAMA_MAX_SEQ: how many sequence ids llama.cpp can tell apart in one cache."""

MAX_ROWS = 128
"""Rows that the processor computes at once; larger batches are split. More gains no speed, and the
memory for attention scores, 4 bytes for each row, cell and head, grows with it."""

CHUNKED_WINDOWS = frozenset({"llama4"})
"""Architectures whose local attention works in chunks of a fixed number of tokens."""


class LlamaModel:
    """One context for many sequences, over weights that are loaded, with their adapters. Not
    thread-safe."""

    def __init__(
        self, config: EngineConfig, weights: LlamaWeights, adapters: LlamaAdapters
    ) -> None:
        self._weights = weights
        self._library = library = weights.library
        self._shape = weights.shape
        self._kv_cache_dtype = config.llama_cpp.kv_cache_dtype
        self._max_num_batched_tokens = config.max_num_batched_tokens
        self._closing = contextlib.ExitStack()
        self.num_vocab = weights.shape.num_vocab
        self.max_model_len, self.num_cells = self._sizes(config)
        self.num_slots = config.max_num_seqs
        window = weights.shape.window
        self._ids_per_slot = 2 if window else 1
        # A copy omits the cells that the window of its last token has passed.
        self.block_tokens = min(BLOCK_TOKENS, window) if window else BLOCK_TOKENS
        self._transit_id = self.num_slots * self._ids_per_slot
        self.can_share = self._can_share(config)
        if not self.can_share:
            self._ids_per_slot = 1
        self._adapters = adapters
        self.context = self._create_context(config)
        self._closing.callback(library.free_context, self.context)
        self._batch = TokenBatch(
            library,
            max_tokens=config.max_num_batched_tokens,
            max_ids=self._ids_per_slot * self.num_slots,
        )
        self._warm_up()

    def eog_token_ids(self) -> frozenset[int]:
        """Every token that ends a generation, as llama.cpp sees it."""
        return self._library.eog_token_ids(self._weights.model)

    def remove(self, slot: int) -> None:
        """Take all cells away from a slot."""
        for sequence_id in self._sequence_ids(slot):
            self._cut(sequence_id, 0, -1)

    def share(self, source: int, target: int, start: int, end: int) -> None:
        """Give `target` the cells that `source` has at positions `start` to `end`."""
        for target_id in self._sequence_ids(target):
            self._library.copy(self.context, source, target_id, start, end)

    def save(self, slot: int, start: int, end: int) -> bytes:
        """A copy of the contents of a slot's cells at positions `start` to `end`."""
        self._library.copy(self.context, slot, self._transit_id, start, end)
        data = self._library.save(self.context, self._transit_id)
        self._cut(self._transit_id, 0, -1)
        if data is None:
            raise EngineError("llama.cpp did not copy all of the KV cache that it was asked for.")
        return data

    def load(self, slot: int, block: Block, start: int, end: int) -> None:
        """Fill new cells of a slot at positions `start` to `end`, which the block covers. Raises
        EngineError when the block does not fit, and leaves nothing then."""
        if not self._library.load(self.context, self._transit_id, block.data):
            self._cut(self._transit_id, 0, -1)
            raise EngineError(f"llama.cpp did not take {len(block.data)} bytes into the KV cache.")
        for sequence_id in self._sequence_ids(slot):
            self._library.copy(self.context, self._transit_id, sequence_id, start, end)
        self._cut(self._transit_id, 0, -1)

    def logits(self, row: int) -> Floats:
        """A view into llama.cpp's memory, of `num_vocab` values; valid until the next step."""
        address = self._library.logits(self.context, row)
        assert address, "no logits were asked for in this row: this is a bug"
        return floats_at(address, self.num_vocab)

    def decode(self, batch: Batch) -> list[int]:
        """Compute a batch. Returns the row of every chunk's last token, in order.

        A chunk that samples has logits in its last row; a chunk that scores its prompt has logits
        in all its rows.

        Raises EngineError when llama.cpp refuses the batch.
        """
        self._adapters.use(self.context, batch.adapter)
        rows = self._fill(batch)
        status = self._library.decode(self.context, self._batch.data)
        if status != 0:
            raise EngineError(
                f"llama_decode failed with status {status}. {self._library.last_messages()}"
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
            self._batch.clear()
            self._batch.put([0] * (stop - start), start, (0,), wanted=False)
            status = self._library.decode(self.context, self._batch.data)
            if status != 0:
                raise EngineError(f"The first llama_decode failed with status {status}.")
        self._library.clear(self.context)

    def _fill(self, batch: Batch) -> list[int]:
        self._batch.clear()
        rows: list[int] = []
        for chunk in batch.chunks:
            ids = [each for seq in chunk.sequences for each in self._sequence_ids(seq.slot)]
            token_ids = chunk.sequences[0].token_ids[chunk.start : chunk.end]
            self._batch.put(token_ids, chunk.start, ids, wanted=chunk.scores)
            rows.append(self._batch.num_tokens - 1)
            if chunk.samples:
                self._batch.want(rows[-1])
        return rows

    def _sequence_ids(self, slot: int) -> tuple[int, ...]:
        """llama.cpp's ids for a slot: one, and a second one with sliding windows. llama.cpp
        overwrites a cell that belongs to one sequence id alone and that the window has passed. A
        prefix kept for later sequences needs those cells, and the second id holds them."""
        return (slot,) if self._ids_per_slot == 1 else (slot, slot + self.num_slots)

    def _cut(self, sequence_id: int, start: int, end: int) -> None:
        removed = self._library.remove(self.context, sequence_id, start, end)
        assert removed, "this kind of memory cannot be cut: this is a bug"

    def _can_share(self, config: EngineConfig) -> bool:
        """Whether prefixes can be reused. They cannot with recurrent layers, whose state has no
        positions; with chunked windows, from which no copy can be cut; or when llama.cpp has too
        few sequence ids, or outputs to set up for them, for that many sequences."""
        num_ids = self._transit_id + 1
        return (
            config.prefix_caching != "off"
            and not self._shape.has_state
            and self._weights.architecture not in CHUNKED_WINDOWS
            and num_ids <= min(MAX_SEQUENCE_IDS, config.max_num_batched_tokens)
        )

    def _sizes(self, config: EngineConfig) -> tuple[int, int]:
        """Longest sequence and cells of the cache, in tokens."""
        trained = self._shape.context
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

    def computation(self, config: EngineConfig) -> list[object]:
        """On what keys and values depend beside the model's file and the tokens, and on what the
        form of copies depends."""
        library, settings = self._library, config.llama_cpp
        architecture = self._weights.architecture
        key = f"{architecture}.rope.scaling.original_context_length"
        original = int(self._weights.metadata(key) or self.num_cells)
        return [
            library.family,
            library.version,
            self._kv_cache_dtype,
            self._flash_attention(config),
            settings.num_gpu_layers,
            self.num_cells > original,  # some models turn positions differently in long contexts
        ]

    def _spare_bytes(self) -> int:
        return max(0, self._weights.memory_left - RESERVED_BYTES)

    def _bytes_per_cell(self) -> int:
        """Keys and values of all layers, and the attention scores of one layer."""
        shape, dtype = self._shape, self._kv_cache_dtype
        values = shape.num_layers * shape.num_kv_heads * shape.head_size
        return int(KEY_AND_VALUE_BYTES[dtype] * values + 4 * MAX_ROWS * shape.num_heads)

    def _create_context(self, config: EngineConfig) -> int:
        attention = self._flash_attention(config)
        max_rows = config.max_num_batched_tokens
        options = ContextOptions(
            num_cells=self.num_cells + (self.block_tokens if self.can_share else 0),
            max_batch=config.max_num_batched_tokens,
            max_rows=min(max_rows, MAX_ROWS) if attention == "off" else max_rows,
            max_sequences=self._transit_id + 1 if self.can_share else self.num_slots,
            num_threads=self._weights.num_threads,
            flash_attention=attention,
            kv_cache_type=self._kv_cache_dtype,
            adapts=config.llama_cpp.lora.is_used,
        )
        context = self._library.new_context(self._weights.model, options)
        if not context:
            raise EngineError(
                f"llama.cpp cannot set up a context of {self.num_cells} tokens: lower"
                f" engine.num_kv_tokens. {self._library.last_messages()}"
            )
        return context

    def _flash_attention(self, config: EngineConfig) -> FlashAttention:
        """Which kind of attention computes. On the processor llama.cpp's flash attention takes each
        row by itself while there are fewer than 64: with eight streams at 2,000 tokens a step takes
        three times as long as with the plain kind (docs/performance.md). A cache in fewer bits
        needs it."""
        settings, traits = config.llama_cpp, self._library.traits
        if settings.flash_attention is True or settings.kv_cache_dtype != "f16":
            return "on"
        wanted = settings.flash_attention == "auto" and settings.num_gpu_layers
        return "auto" if wanted and traits.can_choose_attention else "off"
