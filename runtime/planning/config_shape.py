"""The shape of a model from its `config.json`, with the names and defaults of transformers."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from runtime.planning.model_shape import MAX_LAYERS, ModelShape, cannot_plan, checked


class _Config(Struct, frozen=True):
    """The fields that the planner needs. A missing field is None or has its usual default."""

    model_type: str
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    tie_word_embeddings: bool | None = None
    attention_bias: bool | None = None
    mlp_bias: bool = False
    sliding_window: int | None = None
    use_sliding_window: bool = False
    max_window_layers: int = 0
    sliding_window_pattern: int = 6
    layer_types: list[str] | None = None
    num_experts: int | None = None
    num_local_experts: int | None = None
    num_experts_per_tok: int = 0
    moe_intermediate_size: int | None = None
    decoder_sparse_step: int = 1
    mlp_only_layers: list[int] = []

    @property
    def experts(self) -> int:
        return self.num_experts or self.num_local_experts or 0

    @property
    def width(self) -> int:
        """Width of one head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def kv_heads(self) -> int:
        return self.num_key_value_heads or self.num_attention_heads


def _no_windows(config: _Config, layer: int) -> bool:
    return False


def _all_windows(config: _Config, layer: int) -> bool:
    return True


def _upper_windows(config: _Config, layer: int) -> bool:
    return config.use_sliding_window and layer >= config.max_window_layers


def _every_other(config: _Config, layer: int) -> bool:
    return layer % 2 == 0


def _all_but_every_nth(config: _Config, layer: int) -> bool:
    return (layer + 1) % config.sliding_window_pattern != 0


class _Family(Struct, frozen=True, kw_only=True):
    """What an architecture has beyond its sizes. `num_norms` is the number of norms in each layer.

    `has_qkv_bias` and `has_output_bias` are the defaults of `attention_bias`. `ties` is the default
    of `tie_word_embeddings`. `has_window` says which layers have the sliding window.
    """

    has_window: Callable[[_Config, int], bool] = _no_windows
    num_norms: int = 2
    has_qk_norm: bool = False
    has_qkv_bias: bool = False
    has_output_bias: bool = False
    has_sinks: bool = False
    has_expert_bias: bool = False
    ties: bool = False


_FAMILIES: Mapping[str, _Family] = {
    "llama": _Family(),
    "mistral": _Family(has_window=_all_windows),
    "mixtral": _Family(has_window=_all_windows),
    "phi3": _Family(has_window=_all_windows),
    "qwen2": _Family(has_window=_upper_windows, has_qkv_bias=True),
    "qwen3": _Family(has_window=_upper_windows, has_qk_norm=True),
    "qwen3_moe": _Family(has_window=_upper_windows, has_qk_norm=True),
    "gemma2": _Family(has_window=_every_other, num_norms=4, ties=True),
    "gemma3_text": _Family(has_window=_all_but_every_nth, num_norms=4, has_qk_norm=True, ties=True),
    "gpt_oss": _Family(
        has_window=_every_other,
        has_qkv_bias=True,
        has_output_bias=True,
        has_sinks=True,
        has_expert_bias=True,
    ),
}


def shape_of_config(config: Mapping[str, Any], name: str) -> ModelShape:
    """The shape of the model that a `config.json` describes.

    Raises SetupError for an architecture that is not counted exactly, and for a value that is
    missing or impossible.
    """
    _refuse_other_kinds(config, name)
    try:
        # transformers writes null for an omitted field
        given = {key: value for key, value in config.items() if value is not None}
        read = msgspec.convert(given, _Config)
    except msgspec.ValidationError as error:
        raise cannot_plan(name, f"config.json: {error}") from error
    _check_sizes(read, name)
    return _shape(read, _FAMILIES[read.model_type], name)


def _refuse_other_kinds(config: Mapping[str, Any], name: str) -> None:
    if config.get("kv_lora_rank") is not None:
        raise cannot_plan(name, "its attention is latent (MLA), whose cache has another layout")
    for key in ("text_config", "vision_config", "audio_config"):
        if key in config:
            raise cannot_plan(name, f"it has parts beside a text decoder (`{key}`)")
    kind = config.get("model_type")
    if kind not in _FAMILIES:
        raise cannot_plan(
            name,
            f"config.json: `model_type` is {kind!r}, and the planner counts only"
            f" {', '.join(_FAMILIES)}. Layers with a state instead of a KV cache (hybrid models)"
            " are not among them",
        )
    layers = set(config.get("layer_types") or ())
    if other := layers - {"full_attention", "sliding_attention"}:
        raise cannot_plan(name, f"config.json: `layer_types` has {sorted(other)[0]!r}")


def _check_sizes(config: _Config, name: str) -> None:
    for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"):
        if getattr(config, key) < 1:
            raise cannot_plan(name, f"config.json: `{key}` is less than 1")
    if config.num_hidden_layers > MAX_LAYERS:
        raise cannot_plan(name, f"config.json: `num_hidden_layers` is {config.num_hidden_layers}")
    if config.layer_types is not None and len(config.layer_types) != config.num_hidden_layers:
        raise cannot_plan(name, "config.json: `layer_types` has not an entry for each layer")
    if config.experts and not 0 < config.num_experts_per_tok <= config.experts:
        raise cannot_plan(name, "config.json: `num_experts_per_tok` does not fit the experts")
    if config.decoder_sparse_step != 1 or config.mlp_only_layers:
        raise cannot_plan(name, "config.json: only some of its layers have experts")


def _shape(config: _Config, family: _Family, name: str) -> ModelShape:
    embedding = config.vocab_size * config.hidden_size
    tied = family.ties if config.tie_word_embeddings is None else config.tie_word_embeddings
    attention = _attention_params(config)
    dense = 0 if config.experts else 3 * config.hidden_size * config.intermediate_size
    expert_width = config.moe_intermediate_size or config.intermediate_size
    layers = config.num_hidden_layers
    return checked(
        ModelShape(
            name=name,
            architecture=config.model_type,
            num_layers=layers,
            hidden_size=config.hidden_size,
            intermediate_size=_widest_step(config, expert_width),
            num_attention_heads=config.num_attention_heads,
            head_dim=config.width,
            kv_width=2 * config.kv_heads * config.width,
            vocab_size=config.vocab_size,
            max_model_len=config.max_position_embeddings,
            windows=_windows(config, family),
            embedding_params=embedding,
            lm_head_params=0 if tied else embedding,
            linear_params=layers * (attention + dense),
            other_params=layers * _other_params(config, family, expert_width) + config.hidden_size,
            expert_params=layers * config.experts * 3 * config.hidden_size * expert_width,
            num_experts=config.experts,
            num_experts_per_tok=config.num_experts_per_tok if config.experts else 0,
            linear_inputs=(
                config.hidden_size,
                config.num_attention_heads * config.width,
                expert_width,
            ),
            has_linear_bias=_has_bias(config, family),
            has_sinks=family.has_sinks,
        )
    )


def _attention_params(config: _Config) -> int:
    """Number of weights in one layer's attention: query and output, keys and values."""
    heads = 2 * config.num_attention_heads + 2 * config.kv_heads
    return config.hidden_size * config.width * heads


def _widest_step(config: _Config, expert_width: int) -> int:
    """Width of a token in the feed-forward layer; with experts, that of all experts it uses."""
    return expert_width * (config.num_experts_per_tok if config.experts else 1)


def _other_params(config: _Config, family: _Family, expert_width: int) -> int:
    """Number of weights in one layer's norms, biases, routers and attention sinks."""
    query, keys = config.num_attention_heads * config.width, config.kv_heads * config.width
    count = family.num_norms * config.hidden_size + 2 * config.width * family.has_qk_norm
    count += config.experts * config.hidden_size
    if _has_qkv_bias(config, family):
        count += query + 2 * keys
    if family.has_output_bias or (config.attention_bias and not family.has_qkv_bias):
        count += config.hidden_size
    if config.mlp_bias:
        count += 2 * config.intermediate_size + config.hidden_size
    if family.has_sinks:
        count += config.num_attention_heads
    if family.has_expert_bias:
        count += config.experts * (1 + 2 * expert_width + config.hidden_size)
    return count


def _has_qkv_bias(config: _Config, family: _Family) -> bool:
    return family.has_qkv_bias or bool(config.attention_bias)


def _has_bias(config: _Config, family: _Family) -> bool:
    return _has_qkv_bias(config, family) or config.mlp_bias


def _windows(config: _Config, family: _Family) -> tuple[int, ...]:
    layers = range(config.num_hidden_layers)
    if not config.sliding_window:
        return (0,) * len(layers)
    if config.layer_types is not None:
        has_window = [kind == "sliding_attention" for kind in config.layer_types]
    else:
        has_window = [family.has_window(config, layer) for layer in layers]
    return tuple(config.sliding_window if there else 0 for there in has_window)
