"""The shape of a model from the header of its GGUF file. Weights are counted from the tensors."""

from collections.abc import Callable, Mapping
from math import prod

from runtime.models.gguf import GGUFFile, TensorInfo
from runtime.planning.model_shape import MAX_LAYERS, ModelShape, cannot_plan, checked

_WINDOWS: Mapping[str, Callable[[int], bool] | None] = {
    "llama": None,
    "qwen2": None,
    "qwen3": None,
    "qwen3moe": None,
    "phi3": lambda layer: True,
    "gemma2": lambda layer: layer % 2 == 0,
    "gemma3": lambda layer: (layer + 1) % 6 != 0,
    "gpt-oss": lambda layer: layer % 2 == 0,
}
"""Architectures that are counted, and which of their layers have a sliding window: None if none
has."""


def shape_of_gguf(file: GGUFFile, name: str) -> ModelShape:
    """The shape of the model that the header describes. Raises SetupError for an architecture that
    the planner would have to guess about, ModelFileError for a key of the wrong type."""
    kind = file.text("general.architecture")
    _refuse_other_kinds(file, kind, name)
    sizes = _Sizes(file, kind, name)
    heads, hidden = sizes.need("attention.head_count"), sizes.need("embedding_length")
    kv_heads = sizes.get("attention.head_count_kv") or heads
    key_width = sizes.get("attention.key_length") or hidden // heads
    value_width = sizes.get("attention.value_length") or key_width
    experts, used = sizes.get("expert_count"), sizes.get("expert_used_count")
    expert_width = sizes.get("expert_feed_forward_length")
    step_width = expert_width or sizes.need("feed_forward_length")
    counts = _count(file.tensors)
    num_layers = sizes.need("block_count")
    if num_layers > MAX_LAYERS:
        raise cannot_plan(name, f"its `{kind}.block_count` is {num_layers}")
    return checked(
        ModelShape(
            name=name,
            architecture=kind,
            num_layers=num_layers,
            hidden_size=hidden,
            intermediate_size=step_width * (used or 1),
            num_attention_heads=heads,
            head_dim=key_width,
            kv_width=kv_heads * (key_width + value_width),
            vocab_size=_vocab_size(file, name),
            max_model_len=sizes.need("context_length"),
            windows=_windows(kind, sizes.get("attention.sliding_window"), num_layers),
            embedding_params=counts["embedding"],
            lm_head_params=counts["lm_head"],
            linear_params=counts["linear"],
            other_params=counts["other"],
            expert_params=counts["expert"],
            num_experts=experts,
            num_experts_per_tok=used,
            linear_inputs=(hidden, heads * key_width, step_width),
            has_linear_bias=any(_is_linear_bias(tensor.name) for tensor in file.tensors),
            has_sinks=any("attn_sinks" in tensor.name for tensor in file.tensors),
        )
    )


class _Sizes:
    """The numbers that a header has under its architecture's prefix."""

    def __init__(self, file: GGUFFile, kind: str, name: str) -> None:
        self._file = file
        self._kind = kind
        self._name = name

    def get(self, key: str) -> int:
        """The number under a key; 0 if the key is absent."""
        return self._file.number(f"{self._kind}.{key}") or 0

    def need(self, key: str) -> int:
        value = self.get(key)
        if value < 1:
            raise cannot_plan(self._name, f"its header has no `{self._kind}.{key}`")
        return value


def _refuse_other_kinds(file: GGUFFile, kind: str, name: str) -> None:
    if f"{kind}.attention.kv_lora_rank" in file.metadata:
        raise cannot_plan(name, "its attention is latent (MLA), whose cache has another layout")
    if any(key.startswith(f"{kind}.ssm.") for key in file.metadata):
        raise cannot_plan(name, "some of its layers have a state instead of a KV cache (hybrid)")
    if kind not in _WINDOWS:
        raise cannot_plan(
            name, f"its architecture is {kind!r}, and the planner counts only {', '.join(_WINDOWS)}"
        )


def _windows(kind: str, window: int, num_layers: int) -> tuple[int, ...]:
    has_window = _WINDOWS[kind]
    if has_window is None or not window:
        return (0,) * num_layers
    return tuple(window if has_window(layer) else 0 for layer in range(num_layers))


def _count(tensors: tuple[TensorInfo, ...]) -> dict[str, int]:
    counts = dict.fromkeys(("embedding", "lm_head", "linear", "expert", "other"), 0)
    for tensor in tensors:
        counts[_part(tensor)] += prod(tensor.shape)
    return counts


def _part(tensor: TensorInfo) -> str:
    name = tensor.name
    if name == "token_embd.weight":
        return "embedding"
    if name == "output.weight":
        return "lm_head"
    if len(tensor.shape) < 2 or name.endswith(".bias") or "ffn_gate_inp" in name:
        return "other"
    return "expert" if "_exps." in name else "linear"


def _is_linear_bias(name: str) -> bool:
    return name.startswith("blk.") and name.endswith(".bias") and "norm" not in name


def _vocab_size(file: GGUFFile, name: str) -> int:
    for tensor in file.tensors:
        if tensor.name == "token_embd.weight" and len(tensor.shape) == 2:
            return tensor.shape[1]
    raise cannot_plan(name, "it has no embedding `token_embd.weight`")
