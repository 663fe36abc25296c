"""Divides a GPU's memory: weights, what the runtime needs, a reserve, and the KV cache."""

import bisect
from typing import Literal

from msgspec import Struct

from runtime.planning.model_shape import ModelShape
from runtime.planning.precisions import BYTES_16BIT, Precision

KVCacheDtype = Literal["auto", "fp8"]

TOKENS_PER_BLOCK = 32
"""Tokens in a block of TensorRT-LLM's KV cache (`tokens_per_block`)."""

RUNTIME_BYTES = 1 << 30
"""Bytes assumed for the CUDA context, the libraries' kernels, their workspaces and CUDA graphs."""

RESERVE_FRACTION = 0.05
"""Share of the memory that is left free: the driver keeps a part, and a desktop uses some."""

AUTO_MAX_BATCH_SIZE = 64
AUTO_MAX_NUM_TOKENS = 2048
AUTO_CONTEXT = 4096
"""Assumed tokens of a stream, prompt and answer, if the user gives no length."""

_LOGIT_BYTES = 4 + 4
"""Bytes per vocabulary entry and sequence: the logit and its probability, 32 bits each."""


class Wishes(Struct, frozen=True, kw_only=True):
    """The user's settings; the planner chooses each one that is None.

    `context` is the longest sequence in tokens, prompt and answer; `max_batch_size` is in
    sequences; `max_num_tokens` is the tokens of one step, prompts included.
    """

    context: int | None = None
    max_batch_size: int | None = None
    max_num_tokens: int | None = None
    kv_cache_dtype: KVCacheDtype = "auto"
    reserve_fraction: float = RESERVE_FRACTION

    @property
    def batch_size(self) -> int:
        """The largest batch that memory is kept for."""
        return self.max_batch_size or AUTO_MAX_BATCH_SIZE

    @property
    def step_tokens(self) -> int:
        """The largest step that memory is kept for; every running sequence has a token in it."""
        return self.max_num_tokens or max(AUTO_MAX_NUM_TOKENS, self.batch_size)


class Budget(Struct, frozen=True, kw_only=True):
    """The parts of the memory, in bytes. `kv_cache` is the remainder, below 0 if the rest is too
    large.

    `runtime` is assumed (`RUNTIME_BYTES`). `activations` is the widest moment of a step of
    `max_num_tokens` tokens, and the logits of `max_batch_size` sequences.
    """

    memory: int
    weights: int
    runtime: int
    activations: int
    reserve: int
    kv_cache: int


def weight_bytes(shape: ModelShape, precision: Precision) -> int:
    """Bytes of all weights: quantised layers at the precision's size, the rest in 16 bits."""
    quantised = shape.linear_params + shape.expert_params
    rest = shape.num_params - quantised
    return round(quantised * precision.bits / 8) + rest * BYTES_16BIT


def kv_bytes(shape: ModelShape, num_tokens: int, kv_cache_dtype: KVCacheDtype) -> int:
    """Bytes that the KV cache needs for one sequence of that length, in whole blocks.

    A layer with a sliding window keeps no more tokens than the window, in whole blocks too.
    """
    kept = sum(_blocks(min(num_tokens, window or num_tokens)) for window in shape.windows)
    return kept * TOKENS_PER_BLOCK * shape.kv_width * kv_element_bytes(kv_cache_dtype)


def longest_fit(shape: ModelShape, num_bytes: int, most: int, kv_cache_dtype: KVCacheDtype) -> int:
    """The longest sequence, in tokens, whose KV cache fits into this many bytes; at most `most`."""
    lengths = range(1, most + 1)
    return bisect.bisect_right(
        lengths, num_bytes, key=lambda length: kv_bytes(shape, length, kv_cache_dtype)
    )


def account(
    shape: ModelShape, memory: int, weights: int, wishes: Wishes, *, runtime: int = RUNTIME_BYTES
) -> Budget:
    """Divides the memory, in bytes. Activations are counted as the widest moment of a layer: its
    input and output, query, key and value, and the feed-forward layer's two halves and their
    product."""
    attention = shape.num_attention_heads * shape.head_dim + shape.kv_width
    width = 4 * shape.hidden_size + attention + 3 * shape.intermediate_size
    activations = wishes.step_tokens * width * BYTES_16BIT
    activations += wishes.batch_size * shape.vocab_size * _LOGIT_BYTES
    reserve = round(memory * wishes.reserve_fraction)
    return Budget(
        memory=memory,
        weights=weights,
        runtime=runtime,
        activations=activations,
        reserve=reserve,
        kv_cache=memory - weights - runtime - activations - reserve,
    )


def kv_bytes_per_token(shape: ModelShape, kv_cache_dtype: KVCacheDtype) -> int:
    """Bytes of the KV cache for one token, in all layers together."""
    return shape.num_layers * shape.kv_width * kv_element_bytes(kv_cache_dtype)


def kv_element_bytes(kv_cache_dtype: KVCacheDtype) -> int:
    """Bytes of one number in the KV cache."""
    return 1 if kv_cache_dtype == "fp8" else BYTES_16BIT


def held_tokens(
    shape: ModelShape, num_bytes: int, context: int, kv_cache_dtype: KVCacheDtype
) -> int:
    """Number of tokens that a KV cache of `num_bytes` holds: those of as many streams of `context`
    tokens as fit, and of one shorter stream in the rest."""
    per_stream = kv_bytes(shape, context, kv_cache_dtype)
    whole, rest = divmod(max(num_bytes, 0), per_stream)
    return whole * context + longest_fit(shape, rest, context, kv_cache_dtype)


def _blocks(num_tokens: int) -> int:
    return -(-num_tokens // TOKENS_PER_BLOCK)
