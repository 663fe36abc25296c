"""Phi-3 and Phi-4: q, k and v are one matrix, gate and up another, in Hugging Face's files too."""

from convert.architectures.base import Architecture, Config, Metadata, base_config
from convert.source.gguf import GGUFSource

_LONG, _SHORT = "rope_factors_long.weight", "rope_factors_short.weight"


def _config(source: GGUFSource) -> Config:
    data = Metadata(source)
    config = base_config(data)
    rotated = data.size("rope.dimension_count", config["head_dim"])
    context = config["max_position_embeddings"]
    return {
        "architectures": ["Phi3ForCausalLM"],
        "model_type": "phi3",
        "hidden_act": "silu",
        **config,
        "pad_token_id": config.get("pad_token_id", config.get("eos_token_id", 0)),
        "attention_bias": False,
        "partial_rotary_factor": rotated / config["head_dim"],
        "rope_scaling": _scaling(data, rotated),
        "original_max_position_embeddings": data.size(
            "rope.scaling.original_context_length", context
        ),
        "sliding_window": _window(data),
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
    }


def _window(data: Metadata) -> int | None:
    key = "attention.sliding_window"
    # Newer files have a window of 0 for models without one.
    return (data.source.header.number(f"{data.source.architecture}.{key}") or None) and data.size(
        key
    )


def _scaling(data: Metadata, rotated: int) -> Config | None:
    if _LONG not in data.source.tensors:
        return None
    count = rotated // 2
    factors = {
        "long_factor": data.factors(_LONG, count),
        "short_factor": data.factors(_SHORT, count),
    }
    plain = {name: [float(str(x)) for x in values] for name, values in factors.items()}
    # the class in transformers 4 accepts these three keys and no others
    return {"type": "longrope", **plain}


PHI3 = Architecture(
    name="phi3",
    layer={
        "attn_norm.weight": "input_layernorm.weight",
        "attn_qkv.weight": "self_attn.qkv_proj.weight",
        "attn_output.weight": "self_attn.o_proj.weight",
        "ffn_norm.weight": "post_attention_layernorm.weight",
        "ffn_up.weight": "mlp.gate_up_proj.weight",
        "ffn_down.weight": "mlp.down_proj.weight",
    },
    in_config=frozenset((_LONG, _SHORT)),
    config=_config,
    refused=dict.fromkeys(
        ("int4-awq", "int4-kept", "int4-rtn", "nvfp4-w4a16"),
        "the loader cuts Phi-3's fused matrices by rows and knows no packed ones",
    ),
)
