"""From the tensors of a Hugging Face folder to those of the target, which have the same names."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from convert.architectures.base import EXPERT, TOP, Architecture, Config
from convert.architectures.classes import CLASSES, ModelClass
from convert.mapping.gguf import group_of, kind_of, position_of, shapes_of
from convert.source.folder import FLOATS, FolderSource
from convert.tensors.source_tensor import SourceTensor
from convert.tensors.weights import Weight
from runtime.errors import ModelFileError
from runtime.models.hf_folder import CONFIG_FILE

_LAYER = re.compile(r"^model\.layers\.(0|[1-9]\d{0,5})\.(.+)$")
_EXPERT = re.compile(r"(?<=\.experts\.)(0|[1-9]\d{0,5})(?=\.)")
_HEAD = "lm_head.weight"
# A buffer that old checkpoints have: computed, not learnt.
_BUFFER = ".rotary_emb.inv_freq"
_MAX_SIZE = 1 << 31


def folder_architecture(source: FolderSource) -> Architecture:
    """The table for this model. Raises ModelFileError, listing the known ones, without one."""
    return _model_class(source).architecture


def folder_config(source: FolderSource) -> Config:
    """config.json with all sizes filled in. Raises ModelFileError, naming the field."""
    path, given, kind = source.folder / CONFIG_FILE, source.config, _model_class(source)
    if (found := given.get("model_type")) != kind.model_type:
        raise ModelFileError(
            f"{path}: `model_type` is {found!r} and should be {kind.model_type!r} for"
            f" {source.architecture}."
        )
    heads, hidden = _size(path, given, "num_attention_heads"), _size(path, given, "hidden_size")
    sizes = {
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_hidden_layers": _size(path, given, "num_hidden_layers"),
        "intermediate_size": _size(path, given, "intermediate_size"),
        "vocab_size": _size(path, given, "vocab_size"),
        "num_key_value_heads": _size(path, given, "num_key_value_heads", heads),
        "head_dim": _size(path, given, "head_dim", kind.head_dim or hidden // heads),
        "rms_norm_eps": _real(path, given, "rms_norm_eps"),
        **_expert_sizes(path, given, kind),
    }
    for name in ("num_hidden_layers", kind.num_experts):
        if name and sizes[name] > len(source.tensors):
            raise ModelFileError(f"{path}: `{name}` is {sizes[name]}, which the files do not have.")
    tied = given.get("tie_word_embeddings")
    if tied is None:
        tied = _HEAD not in source.tensors
    return {**given, **sizes, "tie_word_embeddings": bool(tied)}


def _model_class(source: FolderSource) -> ModelClass:
    found = CLASSES.get(source.architecture)
    if found is None:
        raise ModelFileError(
            f"{source.folder / CONFIG_FILE}: `architectures` is {source.architecture!r}; known are"
            f" {', '.join(CLASSES)}."
        )
    return found


def _expert_sizes(path: Path, given: dict[str, Any], kind: ModelClass) -> dict[str, int]:
    """The sizes of a mixture of experts, none for a dense model."""
    if not kind.num_experts:
        return {}
    for name, expected in kind.fixed.items():
        if (found := given.get(name)) not in (None, expected):
            raise ModelFileError(
                f"{path}: `{name}` is {found!r}; known are models with experts in every layer,"
                f" where it is {expected!r}."
            )
    # transformers 5 calls all of them num_local_experts
    count = _size(path, given, kind.num_experts, given.get("num_local_experts"))
    used = _size(path, given, "num_experts_per_tok")
    if used > count:
        raise ModelFileError(
            f"{path}: `num_experts_per_tok` is {used}, and there are {count} experts."
        )
    sizes = {kind.num_experts: count, "num_experts_per_tok": used}
    return sizes | {name: _size(path, given, name) for name in kind.expert_widths}


def map_folder(
    source: FolderSource, architecture: Architecture, config: Config, *, keep_levels: bool
) -> list[Weight]:
    """All tensors of the target, in the order of the layers.

    With `keep_levels` packed weights are marked as such. Raises ModelFileError for a tensor that
    the table does not know, that is missing, or whose shape is not what config.json says.
    """
    mapping = _Mapping(source, architecture, config, keep_levels=keep_levels)
    weights = [mapping.weight(tensor) for tensor in source.tensors.values()]
    found = [weight for weight in weights if weight is not None]
    mapping.check_complete()
    return sorted(found, key=position_of)


class _Mapping:
    def __init__(
        self,
        source: FolderSource,
        architecture: Architecture,
        config: Config,
        *,
        keep_levels: bool,
    ) -> None:
        self._source = source
        self._architecture = architecture
        self._config = config
        self._keep_levels = keep_levels
        self._shapes = shapes_of(config)
        count = _model_class(source).num_experts
        self._num_experts = int(config[count]) if count else 0
        layer = architecture.layer
        self._names = frozenset(layer.values())
        self._required = frozenset(layer[name] for name in layer.keys() - architecture.optional)

    def weight(self, tensor: SourceTensor) -> Weight | None:
        name = tensor.name
        if name == _HEAD and self._config["tie_word_embeddings"]:
            return None
        if self._is_empty_bias(tensor):
            return None
        if name in TOP.values() or self._is_in_a_layer(name):
            return self._make(tensor)
        if name.endswith(_BUFFER):
            return None
        raise self._fail(name, f"a {self._source.architecture} has no such tensor")

    def check_complete(self) -> None:
        required = set(TOP.values())
        if self._config["tie_word_embeddings"]:
            required.discard(_HEAD)
        for name in sorted(required):
            self._source.tensor(name)
        for layer in range(self._config["num_hidden_layers"]):
            for name in sorted(self._required):
                for expert in range(self._num_experts if EXPERT in name else 1):
                    part = name.replace(EXPERT, str(expert))
                    self._source.tensor(f"model.layers.{layer}.{part}")

    def _is_in_a_layer(self, name: str) -> bool:
        layer = _LAYER.match(name)
        if layer is None or int(layer[1]) >= self._config["num_hidden_layers"]:
            return False
        expert = _EXPERT.search(layer[2])
        if expert is not None and int(expert[1]) >= self._num_experts:
            return False
        return _EXPERT.sub(EXPERT, layer[2]) in self._names

    def _is_empty_bias(self, tensor: SourceTensor) -> bool:
        """AutoGPTQ gives every packed layer a bias, of zeros where the model has none."""
        module, _, last = tensor.name.rpartition(".")
        if last != "bias" or module not in self._source.packed or tensor.type not in FLOATS:
            return False
        if self._has_bias(tensor.name):
            return False
        if tensor.shape != self._source.packed[module].tensor.shape[:1]:
            return False
        with self._source.open_tensor(tensor.name) as reader:
            return not np.any(reader.read(0, 1))

    def _has_bias(self, name: str) -> bool:
        """Whether the model's class has this bias: always, or because config.json asks for it."""
        layer = _LAYER.match(name)
        inner = layer[2] if layer else ""
        asked_for = inner in self._names and bool(self._config.get("attention_bias"))
        return inner in self._required or asked_for

    def _make(self, tensor: SourceTensor) -> Weight:
        last = kind_of(tensor.name)
        expected = self._shapes[last]
        packed = self._source.packed_info(tensor.name) is not None
        if tensor.shape != expected:
            raise self._fail(tensor.name, f"its shape is {tensor.shape} and should be {expected}")
        if not packed and tensor.type not in FLOATS:
            raise self._fail(
                tensor.name, f"its type is {tensor.type}; known are {', '.join(FLOATS)}"
            )
        linear = last.endswith("_proj.weight") or last.startswith("experts.")
        return Weight(
            name=tensor.name,
            source=tensor.name,
            shape=tensor.shape,
            linear=linear,
            group=group_of(tensor.name),
            has_levels=packed and linear and self._keep_levels,
        )

    def _fail(self, name: str, problem: str) -> ModelFileError:
        return ModelFileError(f"{self._source.folder}: {name}: {problem}.")


def _size(path: Path, config: dict[str, Any], name: str, default: int | None = None) -> int:
    value = config.get(name)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < _MAX_SIZE:
        raise ModelFileError(f"{path}: `{name}` is {value!r} and should be a positive integer.")
    return value


def _real(path: Path, config: dict[str, Any], name: str) -> float:
    value = config.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
        raise ModelFileError(f"{path}: `{name}` is {value!r} and should be a number.")
    return float(value)
