"""The type of an architecture's table, and what all families have in common.

Names on the left of the tables are llama.cpp's (`gguf.constants.TENSOR_NAMES`), those on the right
are the modules of Hugging Face's model classes, which TensorRT-LLM's loader expects, too.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from msgspec import Struct

from convert.source.gguf import GGUFSource
from convert.tensors.source_tensor import Rows
from runtime.errors import ModelFileError

Config: TypeAlias = dict[str, Any]

TOP: Mapping[str, str] = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
LAYER: Mapping[str, str] = {
    "attn_norm.weight": "input_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
}
EXPERT = "{expert}"
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
QKV_BIAS: Mapping[str, str] = {
    "attn_q.bias": "self_attn.q_proj.bias",
    "attn_k.bias": "self_attn.k_proj.bias",
    "attn_v.bias": "self_attn.v_proj.bias",
}


class Architecture(Struct, frozen=True, kw_only=True):
    """How one family's GGUF files become a Hugging Face checkpoint.

    `layer` maps names after "blk.N." in the file to names after "model.layers.N." in the
    checkpoint; all of these tensors must exist, except `optional` ones. A target with "{expert}"
    stands for all experts of a layer, which the file stacks by rows in one tensor. `config` makes
    config.json. `in_pairs` are tensors whose rows llama.cpp's converter has reordered. `norm_shift`
    is added to every norm, because llama.cpp's converter has added the opposite. Tensors in
    `in_config` are read by `config` and hold no weights. `refused` maps precisions that this family
    does not support to the reason.
    """

    name: str
    layer: Mapping[str, str]
    config: Callable[[GGUFSource], Config]
    optional: frozenset[str] = frozenset()
    in_pairs: frozenset[str] = frozenset()
    norm_shift: float = 0.0
    in_config: frozenset[str] = frozenset()
    refused: Mapping[str, str] = {}


class Metadata:
    """The hyperparameters of a source, with errors that name the key."""

    def __init__(self, source: GGUFSource) -> None:
        self.source = source
        self._file = source.header
        self._prefix = source.architecture

    def size(self, key: str, default: int | None = None) -> int:
        """A positive integer under "ARCHITECTURE.key"."""
        name = f"{self._prefix}.{key}"
        value = self._file.number(name, default)
        if value is None:
            raise ModelFileError(f"{self._file.path}: `{name}` is missing.")
        if value < 1:
            raise ModelFileError(f"{self._file.path}: `{name}` is {value}.")
        return value

    def real(self, key: str, default: float | None = None) -> float:
        """A finite number under "ARCHITECTURE.key", in the shortest form with the same float32
        value, such as 1e-06.

        Raises ModelFileError if it is missing, not a number, or beyond the range of float32.
        """
        name = f"{self._prefix}.{key}"
        value = self._file.metadata.get(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ModelFileError(f"{self._file.path}: `{name}` is missing or not a number.")
        if not abs(value) <= _LARGEST_FLOAT32:
            raise ModelFileError(f"{self._file.path}: `{name}` is {value}.")
        return float(str(np.float32(value))) if isinstance(value, float) else float(value)

    def positive(self, key: str, default: float) -> float:
        """As `real`, for a number that must be above 0."""
        value = self.real(key, default)
        if value <= 0:
            raise self.fail(f"`{self._prefix}.{key}` is {value}; it has to be above 0.")
        return value

    def factors(self, name: str, count: int) -> Rows:
        """The values of the tensor `name`. Raises ModelFileError unless they are `count` positive
        numbers.

        The count is checked before the values are read: a damaged table can claim any number of
        values.
        """
        found = self.source.tensor(name).num_values
        if found != count:
            raise self.fail(f"`{name}` has {found} values, not {count}.")
        values = self.source.values(name)
        if not ((values > 0) & np.isfinite(values)).all():
            raise self.fail(f"`{name}`: some of its values are not positive numbers.")
        return values

    def has(self, key: str) -> bool:
        """Whether the file has "ARCHITECTURE.key"."""
        return f"{self._prefix}.{key}" in self._file.metadata

    def text(self, key: str) -> str:
        """The text under "ARCHITECTURE.key"; "" if it is missing."""
        return self._file.text(f"{self._prefix}.{key}")

    def fail(self, problem: str) -> ModelFileError:
        """An error about this file, for the caller to raise."""
        return ModelFileError(f"{self._file.path}: {problem}")


def base_config(data: Metadata) -> Config:
    """The fields of config.json that every decoder has. Sizes are checked later, when the tensors
    are mapped."""
    heads = data.size("attention.head_count")
    hidden = data.size("embedding_length")
    tensors = data.source.tensors
    layers = data.size("block_count")
    if layers > len(tensors):
        raise data.fail(f"`block_count` says {layers} layers, which the file does not have.")
    if hidden % heads and not data.has("attention.key_length"):
        raise data.fail(f"`embedding_length` {hidden} cannot be split among {heads} heads.")
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": data.size("feed_forward_length"),
        "num_attention_heads": heads,
        "num_key_value_heads": data.size("attention.head_count_kv", heads),
        "head_dim": data.size("attention.key_length", hidden // heads or None),
        "rms_norm_eps": data.real("attention.layer_norm_rms_epsilon"),
        "max_position_embeddings": data.size("context_length"),
        "rope_theta": data.positive("rope.freq_base", 10000.0),
        "vocab_size": data.source.tensor("token_embd.weight").num_rows,
        "tie_word_embeddings": "output.weight" not in tensors,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_cache": True,
        **_token_ids(data),
    }


def num_experts(data: Metadata) -> tuple[int, int]:
    """The number of experts in a layer, and the number that a token uses."""
    count, used = data.size("expert_count"), data.size("expert_used_count")
    if used > count:
        raise data.fail(f"`expert_used_count` is {used}, and there are {count} experts.")
    return count, used


def rope_scaling(data: Metadata) -> Config | None:
    """`rope_scaling` of config.json for linear and YaRN scaling; None without scaling."""
    kind = data.text("rope.scaling.type")
    if kind in ("", "none"):
        return None
    if kind not in ("linear", "yarn"):
        raise data.fail(f"`rope.scaling.type` is {kind!r}; known are linear and yarn.")
    scaling: Config = {"rope_type": kind, "factor": data.real("rope.scaling.factor")}
    if kind == "yarn":
        original = data.size("rope.scaling.original_context_length")
        scaling["original_max_position_embeddings"] = original
    return scaling


def _token_ids(data: Metadata) -> Config:
    names = {"bos": "bos_token_id", "eos": "eos_token_id", "padding": "pad_token_id"}
    found = {
        name: data.source.header.number(f"tokenizer.ggml.{key}_token_id")
        for key, name in names.items()
    }
    return {name: token_id for name, token_id in found.items() if token_id is not None}
