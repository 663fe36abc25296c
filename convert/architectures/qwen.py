"""Qwen2 and 2.5 (biases on q, k and v) and Qwen3 (norms on q and k), dense and with experts."""

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


def _qwen3_moe(source: GGUFSource) -> Config:
    data = Metadata(source)
    count, used = num_experts(data)
    return {
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        **_common(source),
        "attention_bias": False,
        "moe_intermediate_size": data.size("expert_feed_forward_length"),
        "num_experts": count,
        "num_experts_per_tok": used,
        # llama.cpp (src/models/qwen3moe.cpp) divides the weights of the chosen experts by their sum
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "output_router_logits": False,
        "router_aux_loss_coef": 0.001,
    }


QWEN2 = Architecture(name="qwen2", layer={**LAYER, **QKV_BIAS}, config=_qwen2)
_QWEN3_LAYER = {
    **LAYER,
    "attn_q_norm.weight": "self_attn.q_norm.weight",
    "attn_k_norm.weight": "self_attn.k_norm.weight",
}
QWEN3 = Architecture(name="qwen3", layer=_QWEN3_LAYER, config=_qwen3)
QWEN3_MOE = Architecture(
    name="qwen3moe",
    layer={
        **{name: target for name, target in _QWEN3_LAYER.items() if not target.startswith("mlp.")},
        "ffn_gate_inp.weight": "mlp.gate.weight",
        "ffn_gate_exps.weight": "mlp.experts.{expert}.gate_proj.weight",
        "ffn_up_exps.weight": "mlp.experts.{expert}.up_proj.weight",
        "ffn_down_exps.weight": "mlp.experts.{expert}.down_proj.weight",
    },
    config=_qwen3_moe,
)
