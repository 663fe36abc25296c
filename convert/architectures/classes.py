"""The model classes of Hugging Face folders that the converter reads, and the table of each."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from convert.architectures import gemma, llama, phi, qwen
from convert.architectures.base import Architecture


class ModelClass(Struct, frozen=True, kw_only=True):
    """A model class, and the fields of config.json that are specific to it.

    `head_dim` is the class's default, 0 for hidden_size divided by the number of heads. For a
    mixture of experts, `num_experts` and `expert_widths` name fields of config.json. A field in
    `fixed` must have the value given there, or be absent.
    """

    architecture: Architecture
    model_type: str
    head_dim: int = 0
    num_experts: str = ""
    expert_widths: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = {}


CLASSES: Mapping[str, ModelClass] = {
    "LlamaForCausalLM": ModelClass(architecture=llama.LLAMA, model_type="llama"),
    "MistralForCausalLM": ModelClass(architecture=llama.LLAMA, model_type="mistral"),
    "MixtralForCausalLM": ModelClass(
        architecture=llama.MIXTRAL, model_type="mixtral", num_experts="num_local_experts"
    ),
    "Qwen2ForCausalLM": ModelClass(architecture=qwen.QWEN2, model_type="qwen2"),
    "Qwen3ForCausalLM": ModelClass(architecture=qwen.QWEN3, model_type="qwen3", head_dim=128),
    "Qwen3MoeForCausalLM": ModelClass(
        architecture=qwen.QWEN3_MOE,
        model_type="qwen3_moe",
        num_experts="num_experts",
        expert_widths=("moe_intermediate_size",),
        fixed={"decoder_sparse_step": 1, "mlp_only_layers": []},
    ),
    "Gemma2ForCausalLM": ModelClass(architecture=gemma.GEMMA2, model_type="gemma2", head_dim=256),
    "Gemma3ForCausalLM": ModelClass(
        architecture=gemma.GEMMA3, model_type="gemma3_text", head_dim=256
    ),
    "Phi3ForCausalLM": ModelClass(architecture=phi.PHI3, model_type="phi3"),
}
