"""What goes into a llama.cpp library and comes out of it, in plain values."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

KvCacheType = Literal["f32", "f16", "q8_0", "q4_0"]
"""Types in which values can be kept, "f32" for measurements. Keys are kept in "q8_0" at least: in 4
bits they make nonsense of some models (docs/performance.md)."""

KEY_TYPES: Mapping[KvCacheType, int] = {"f32": 0, "f16": 1, "q8_0": 8, "q4_0": 8}
VALUE_TYPES: Mapping[KvCacheType, int] = {"f32": 0, "f16": 1, "q8_0": 8, "q4_0": 2}
"""As numbers of `ggml_type` in ggml.h."""

FlashAttention = Literal["off", "on", "auto"]
"""Which kind of attention computes; "auto" leaves it to the library, where it can choose."""


class Traits(Struct, frozen=True, kw_only=True):
    """What a family of libraries can do, and which care it needs.

    A library that `can_repack` arranges the weights for the processor while it loads them, and
    then keeps all of them in memory of its own, because the file is not mapped. One that
    `has_extra_bufts` does so for single tensors. One whose windows `drops_cells` overwrites cells
    that a sliding window has passed.
    `has_flash_attention` says that flash attention is right for several sequences in one batch, and
    `can_choose_attention` that it decides about flash attention by itself.
    `has_float32_cache` says that values can be kept in "f32" without flash attention.
    `can_fill_gpus` says that builds of it for GPUs are known to work here. `can_rank` says that it
    computes the scores of rerankers. An encoder's batch must not have `wrong_rows` rows, since it
    computes them wrongly; 0 stands for no such number.
    """

    can_repack: bool
    has_extra_bufts: bool
    drops_cells: bool
    can_choose_attention: bool
    can_fill_gpus: bool
    has_flash_attention: bool
    has_float32_cache: bool
    can_rank: bool
    wrong_rows: int = 0


class LoadedModel(Struct, frozen=True):
    """Addresses of a model and of its vocabulary in the library's memory."""

    address: int
    vocab: int


class ModelOptions(Struct, frozen=True, kw_only=True):
    """How a model file is loaded. What the library cannot do (`Traits`) must be left off."""

    vocab_only: bool = False
    num_gpu_layers: int = 0
    use_extra_bufts: bool = False
    repack_tensors: bool = False


class ModelShape(Struct, frozen=True, kw_only=True):
    """Numbers of a loaded model. `window` is the number of tokens after which the library drops
    cells that only one sequence has; 0 where it never does. `num_bytes` is the weights' size.
    `num_labels` is how many scores a reranker has for a text."""

    num_vocab: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    width: int
    embedding_width: int
    context: int
    window: int
    num_bytes: int
    has_state: bool
    num_labels: int = 0


class ContextOptions(Struct, frozen=True, kw_only=True):
    """How a context is set up; counts are in tokens, sequences and threads. The cache is one for
    all sequences, and layers with windows have as many cells in it as the others. With `embeddings`
    the rows have vectors instead of logits, and if it also `ranks`, sequences have scores. `adapts`
    says that LoRA adapters may be used in it."""

    num_cells: int
    max_batch: int
    max_rows: int
    max_sequences: int
    num_threads: int
    flash_attention: FlashAttention = "off"
    embeddings: bool = False
    ranks: bool = False
    kv_cache_type: KvCacheType = "f16"
    adapts: bool = False


class BatchArrays(Struct, frozen=True, kw_only=True):
    """Addresses of a batch's arrays, which their owner keeps alive: token ids, positions, counts
    of sequence ids (32-bit integers), pointers to sequence ids, and marks of rows whose result is
    wanted (bytes). Where `vectors` (32-bit floats) stand for the tokens, `token` is 0."""

    token: int
    position: int
    num_ids: int
    ids: int
    wanted: int
    vectors: int = 0
