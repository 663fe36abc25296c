"""Llama 2 and 3, Mistral and Mixtral: all have the architecture "llama" in GGUF files.

llama.cpp's converter stores the rows of q and k so that the two rows of a rotary pair are
neighbors. Hugging Face's rotary embedding expects them half a head apart.
"""

import numpy as np

from convert.architectures.base import (
    LAYER,
    QKV_BIAS,
    Architecture,
    Config,
    Metadata,
    base_config,
    num_experts,
    rope_scaling,
)
from convert.source.gguf import GGUFSource
from convert.tensors.source_tensor import Rows

_FREQUENCIES = "rope_freqs.weight"
# Llama 3.1's and 3.2's own values; GGUF keeps only the factors computed from them.
_LOW_FREQ_FACTOR, _HIGH_FREQ_FACTOR, _ORIGINAL_CONTEXT = 1.0, 4.0, 8192
_BIASES = (*QKV_BIAS, "attn_output.bias")


def _config(source: GGUFSource) -> Config:
    data = Metadata(source)
    config = base_config(data)
    if data.size("rope.dimension_count", config["head_dim"]) != config["head_dim"]:
        raise data.fail("`rope.dimension_count` is not the size of a head.")
    mistral = "mistral" in source.header.text("general.name").lower()
    return {
        "architectures": ["MistralForCausalLM" if mistral else "LlamaForCausalLM"],
        "model_type": "mistral" if mistral else "llama",
        "hidden_act": "silu",
        **config,
        "rope_scaling": _scaling(data, config),
        **({"sliding_window": None} if mistral else _biases(data)),
    }


def _mixtral(source: GGUFSource) -> Config:
    data = Metadata(source)
    count, used = num_experts(data)
    return {
        **_config(source),
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "num_local_experts": count,
        "num_experts_per_tok": used,
        "sliding_window": None,
        "output_router_logits": False,
        "router_aux_loss_coef": 0.001,
    }


def _biases(data: Metadata) -> Config:
    found = [f"blk.0.{name}" in data.source.tensors for name in _BIASES]
    if any(found) and not all(found):
        raise data.fail("`blk.0.attn_q.bias`: a Llama has biases on q, k, v and o, or on none.")
    return {"attention_bias": all(found), "mlp_bias": False, "pretraining_tp": 1}


def _scaling(data: Metadata, config: Config) -> Config | None:
    if _FREQUENCIES not in data.source.tensors:
        return rope_scaling(data)
    factors = data.factors(_FREQUENCIES, config["head_dim"] // 2)
    factor = float(factors.max())
    if not np.allclose(factors, _llama3_factors(config, factor), rtol=1e-3):
        raise data.fail(f"`{_FREQUENCIES}` does not follow Llama 3's rule for long contexts.")
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": _LOW_FREQ_FACTOR,
        "high_freq_factor": _HIGH_FREQ_FACTOR,
        "original_max_position_embeddings": _ORIGINAL_CONTEXT,
    }


def _llama3_factors(config: Config, factor: float) -> Rows:
    """The divisor of each frequency: 1 for high frequencies, `factor` for low ones, and a smooth
    transition between."""
    half = config["head_dim"] // 2
    wavelengths = 2 * np.pi * config["rope_theta"] ** (np.arange(half) / half)
    turns = _ORIGINAL_CONTEXT / wavelengths
    smooth = (turns - _LOW_FREQ_FACTOR) / (_HIGH_FREQ_FACTOR - _LOW_FREQ_FACTOR)
    smooth = np.clip(smooth, 0.0, 1.0)
    slowed: Rows = (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)
    return slowed


LLAMA = Architecture(
    name="llama",
    layer={**LAYER, **QKV_BIAS, "attn_output.bias": "self_attn.o_proj.bias"},
    optional=frozenset(_BIASES),
    in_pairs=frozenset(("attn_q.weight", "attn_k.weight", "attn_q.bias", "attn_k.bias")),
    in_config=frozenset((_FREQUENCIES,)),
    config=_config,
)
MIXTRAL = Architecture(
    name="llama",
    layer={
        **{name: target for name, target in LAYER.items() if not target.startswith("mlp.")},
        "ffn_gate_inp.weight": "block_sparse_moe.gate.weight",
        "ffn_gate_exps.weight": "block_sparse_moe.experts.{expert}.w1.weight",
        "ffn_up_exps.weight": "block_sparse_moe.experts.{expert}.w3.weight",
        "ffn_down_exps.weight": "block_sparse_moe.experts.{expert}.w2.weight",
    },
    in_pairs=frozenset(("attn_q.weight", "attn_k.weight")),
    config=_mixtral,
)
