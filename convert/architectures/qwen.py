"""Qwen2 and 2.5 (biases on q, k and v), and the dense Qwen3 (norms on q and k instead)."""

from convert.architectures.base import (
    LAYER,
    QKV_BIAS,
    Architecture,
    Config,
    Metadata,
    base_config,
    rope_scaling,
)
from convert.source import GGUFSource


def _common(source: GGUFSource) -> Config:
    data = Metadata(source)
    return {
        "hidden_act": "silu",
        **base_config(data),
        "rope_scaling": rope_scaling(data),
        "use_sliding_window": False,
        "sliding_window": None,
    }


def _qwen2(source: GGUFSource) -> Config:
    return {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", **_common(source)}


def _qwen3(source: GGUFSource) -> Config:
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        **_common(source),
        "attention_bias": False,
    }


QWEN2 = Architecture(name="qwen2", layer={**LAYER, **QKV_BIAS}, config=_qwen2)
QWEN3 = Architecture(
    name="qwen3",
    layer={
        **LAYER,
        "attn_q_norm.weight": "self_attn.q_norm.weight",
        "attn_k_norm.weight": "self_attn.k_norm.weight",
    },
    config=_qwen3,
)
