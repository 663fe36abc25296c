"""Which norm a layer's input comes from, and how a scale is folded into it.

TensorRT-LLM's loader takes a `pre_quant_scale` for layers that it does not fuse (o_proj and
down_proj), but not for q, k, v, gate and up. For these, the norm before them must divide.
"""

from collections.abc import Container

import numpy as np

from convert.target.layouts import as_dtype
from convert.target.recipe import Dtype
from convert.tensors.source_tensor import Rows
from convert.tensors.weights import Weight


def norm_of(weight: Weight, names: Container[str]) -> str | None:
    """The norm before a fused layer, None for others. `names` are the model's weights."""
    if not weight.group:
        return None
    layer = weight.module.rpartition(".")[0].rpartition(".")[0]
    if ".self_attn." in weight.name:
        return f"{layer}.input_layernorm.weight"
    # Gemma 2 and 3 have a norm behind attention too, which feeds nothing but the residual.
    before = f"{layer}.pre_feedforward_layernorm.weight"
    return before if before in names else f"{layer}.post_attention_layernorm.weight"


def folded_norm(norm: Rows, scale: Rows, dtype: Dtype, *, gemma: bool) -> tuple[Rows, Rows]:
    """The norm to write, and the factor for the weights behind it.

    The factor comes from the rounded norm, not from `scale` itself, so that the product of norm
    and factor is the original norm. Gemma's norms multiply by 1 + w: (1 + w) / s = 1 + w'.
    Channels whose norm is zero, or would be after rounding, stay unchanged.
    """
    one = np.float32(gemma)
    written = as_dtype((norm + one) / scale - one, dtype)
    open_channels = (norm + one != 0) & (written + one != 0) & np.isfinite(written)
    written = np.where(open_channels, written, norm)
    divisor = np.where(open_channels, written + one, 1)
    magnified = np.where(open_channels, norm + one, 1) / divisor
    return written.astype(np.float32), magnified.astype(np.float32)
