"""How fast a GPU can be at the very most.

The roofline model (Williams, Waterman and Patterson, "Roofline: an insightful visual performance
model for multicore architectures", CACM 52(4), 2009): a step takes at least as long as reading its
bytes from memory, and at least as long as its arithmetic at the peak rate. Real kernels stay below
both, so every rate here is a ceiling and no forecast.
"""

from typing import Literal

from msgspec import Struct

from runtime.hardware.gpu_table import GpuSpec
from runtime.planning.memory_account import KVCacheDtype, kv_element_bytes, weight_bytes
from runtime.planning.model_shape import ModelShape
from runtime.planning.precisions import BYTES_16BIT, Precision


class Roofline(Struct, frozen=True, kw_only=True):
    """The ceiling of one batch: tokens a second of all streams together, and what sets it."""

    num_streams: int
    tokens_per_second: float
    limited_by: Literal["bandwidth", "compute"]


def roofline(
    shape: ModelShape,
    gpu: GpuSpec,
    precision: Precision,
    *,
    num_streams: int,
    context: int,
    kv_cache_dtype: KVCacheDtype = "auto",
    weights: int | None = None,
) -> Roofline:
    """The most tokens a second that a batch of streams of `context` tokens can have together.

    One step gives each stream a token and takes max(bytes / bandwidth, operations / peak rate). It
    reads the KV cache of every stream, and all weights with two exceptions: one row of a separate
    embedding is enough, and experts that the batch does not need (`ModelShape.expert_share`) are
    not read. A token takes two operations for each weight and 4 · heads · head size for each token
    attended to (Kaplan et al., "Scaling laws for neural language models", 2020, section 2.1: 2N + 2
    · layers · context · width multiplications and additions). `weights` is the size of the weights
    in bytes if it is known.
    """
    read = _step_weights(shape, precision, num_streams, weights)
    attended = shape.attended(context)
    read += num_streams * attended * shape.kv_width * kv_element_bytes(kv_cache_dtype)
    seconds = read / gpu.bandwidth
    limited_by: Literal["bandwidth", "compute"] = "bandwidth"
    peak = gpu.fp8_flops if precision.computes_in == "fp8" else None
    peak = peak or gpu.fp16_flops
    if peak is not None:
        per_token = 2 * shape.num_active_params
        per_token += 4 * shape.num_attention_heads * shape.head_dim * attended
        computing = num_streams * per_token / peak
        if computing > seconds:
            seconds, limited_by = computing, "compute"
    return Roofline(
        num_streams=num_streams, tokens_per_second=num_streams / seconds, limited_by=limited_by
    )


def expected_speedup(acceptance_rate: float, num_draft_tokens: int, draft_cost: float) -> float:
    """How many times as fast one stream is with speculation, on average.

    (1 - a^(k+1)) / ((1 - a) (kc + 1)): Leviathan, Kalman and Matias, "Fast inference from
    transformers via speculative decoding", 2023, theorem 3.8. Each of k drafted tokens is accepted
    with the same probability a, and drafting one takes the share c of a step.
    """
    if acceptance_rate == 1:
        tokens = num_draft_tokens + 1.0
    else:
        tokens = (1 - acceptance_rate ** (num_draft_tokens + 1)) / (1 - acceptance_rate)
    return tokens / (num_draft_tokens * draft_cost + 1)


def _step_weights(
    shape: ModelShape, precision: Precision, num_streams: int, weights: int | None
) -> float:
    """Bytes of weights that one step reads."""
    total = weight_bytes(shape, precision) if weights is None else weights
    unread = shape.embedding_params * BYTES_16BIT if shape.lm_head_params else 0
    experts = shape.expert_params * precision.bits / 8
    return max(total - unread - experts * (1 - shape.expert_share(num_streams)), 1)
