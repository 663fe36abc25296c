"""Gemma 2 and the text part of Gemma 3.

Their norms multiply by 1 + w. llama.cpp's converter stores 1 + w in the file, so 1 is subtracted
here. The scale of attention is not in the file. The largest model of each generation divides by the
square root of hidden_size / heads, the others by the square root of the head's size (llama.cpp,
src/models/gemma2.cpp and gemma3.cpp). As in llama.cpp, the number of layers tells the largest
model.
"""

from convert.architectures.base import (
    LAYER,
    Architecture,
    Config,
    Metadata,
    base_config,
    rope_scaling,
)
from convert.source.gguf import GGUFSource

_LAYER = {
    **LAYER,
    "post_attention_norm.weight": "post_attention_layernorm.weight",
    "ffn_norm.weight": "pre_feedforward_layernorm.weight",
    "post_ffw_norm.weight": "post_feedforward_layernorm.weight",
}
_LAYERS_OF_GEMMA2_27B = 46
_LAYERS_OF_GEMMA3_27B = 62
_GEMMA3_PATTERN = 6


def _common(data: Metadata, layers_of_largest: int) -> Config:
    config = base_config(data)
    largest = config["num_hidden_layers"] == layers_of_largest
    per_head = config["hidden_size"] // config["num_attention_heads"]
    return {
        "hidden_activation": "gelu_pytorch_tanh",
        **config,
        "attention_bias": False,
        "query_pre_attn_scalar": per_head if largest else config["head_dim"],
        "sliding_window": data.size("attention.sliding_window"),
    }


def _gemma2(source: GGUFSource) -> Config:
    data = Metadata(source)
    config = _common(data, _LAYERS_OF_GEMMA2_27B)
    return {
        "architectures": ["Gemma2ForCausalLM"],
        "model_type": "gemma2",
        **config,
        "layer_types": _layer_types(config, 2),
        "attn_logit_softcapping": data.real("attn_logit_softcapping"),
        "final_logit_softcapping": data.real("final_logit_softcapping"),
    }


def _gemma3(source: GGUFSource) -> Config:
    data = Metadata(source)
    config = _common(data, _LAYERS_OF_GEMMA3_27B)
    return {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        **config,
        "sliding_window_pattern": _GEMMA3_PATTERN,
        "layer_types": _layer_types(config, _GEMMA3_PATTERN),
        "rope_theta": data.positive("rope.freq_base", 1_000_000.0),
        "rope_local_base_freq": data.positive("rope.freq_base_swa", 10_000.0),
        "rope_scaling": rope_scaling(data),
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
    }


def _layer_types(config: Config, period: int) -> list[str]:
    """Every `period`-th layer has full attention."""
    kinds = ("sliding_attention", "full_attention")
    return [kinds[(layer + 1) % period == 0] for layer in range(config["num_hidden_layers"])]


GEMMA2 = Architecture(name="gemma2", layer=_LAYER, norm_shift=-1.0, config=_gemma2)
GEMMA3 = Architecture(
    name="gemma3",
    layer={
        **_LAYER,
        "attn_q_norm.weight": "self_attn.q_norm.weight",
        "attn_k_norm.weight": "self_attn.k_norm.weight",
    },
    norm_shift=-1.0,
    config=_gemma3,
)
