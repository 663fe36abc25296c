"""A decoder in numpy, one layer at a time: computes the input of each linear layer for a text.

Dense models of the Llama, Mistral, Qwen and Gemma families, after Hugging Face's model classes.
Only a layer's result is kept, and a matrix is loaded when it is needed.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from convert.architectures.base import Config
from convert.calibration.inputs import token_parts
from convert.tensors.source_tensor import Rows

MODEL_TYPES = frozenset(("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text"))
_TINY = np.float32(-1e30)


class Loader(Protocol):
    """Weights by Hugging Face's names, in float32 and as the model class has them."""

    def has(self, name: str) -> bool: ...

    def load(self, name: str) -> Rows: ...


Observer = Callable[[list[str], Rows], None]
"""Called with the names of weights and their common input, of shape (tokens, inputs)."""


class Decoder:
    """Computes layers of a model on sequences of equal length."""

    def __init__(self, config: Config, loader: Loader, observe: Observer) -> None:
        self._config = config
        self._loader = loader
        self._observe = observe
        self._gemma = str(config["model_type"]).startswith("gemma")
        self._heads = int(config["num_attention_heads"])
        self._kv_heads = int(config.get("num_key_value_heads") or self._heads)
        self._head_dim = int(config.get("head_dim") or config["hidden_size"] // self._heads)

    def embed(self, vectors: Rows) -> Rows:
        """The input of the first layer. `vectors` are the embedding's rows."""
        if not self._gemma:
            return vectors
        return vectors * np.float32(self._config["hidden_size"] ** 0.5)

    def layer(self, hidden: Rows, number: int, length: int) -> Rows:
        """`hidden` has shape (tokens, width); each `length` tokens are a sequence."""
        name = f"model.layers.{number}"
        attended = self._attend(self._norm(hidden, f"{name}.input_layernorm"), number, length)
        if not self._gemma:
            hidden = hidden + attended
            return hidden + self._mlp(self._norm(hidden, f"{name}.post_attention_layernorm"), name)
        hidden = hidden + self._norm(attended, f"{name}.post_attention_layernorm")
        moved = self._mlp(self._norm(hidden, f"{name}.pre_feedforward_layernorm"), name)
        return hidden + self._norm(moved, f"{name}.post_feedforward_layernorm")

    def _mlp(self, x: Rows, name: str) -> Rows:
        self._observe([f"{name}.mlp.gate_proj.weight", f"{name}.mlp.up_proj.weight"], x)
        active = self._active(x, f"{name}.mlp")
        self._observe([f"{name}.mlp.down_proj.weight"], active)
        return self._linear(active, f"{name}.mlp.down_proj")

    def _active(self, x: Rows, name: str) -> Rows:
        """The input of down_proj, the MLP's only intermediate kept for all tokens at once."""
        gate = self._loader.load(f"{name}.gate_proj.weight")
        up = self._loader.load(f"{name}.up_proj.weight")
        active = np.empty((len(x), len(gate)), dtype=np.float32)
        for part in token_parts(len(x)):
            opened = x[part] @ gate.T
            opened = _gelu(opened) if self._gemma else _silu(opened)
            np.multiply(opened, x[part] @ up.T, out=active[part])
        return active

    def _attend(self, x: Rows, number: int, length: int) -> Rows:
        name = f"model.layers.{number}.self_attn"
        self._observe([f"{name}.{part}_proj.weight" for part in "qkv"], x)
        q, k, v = (self._split(self._linear(x, f"{name}.{part}_proj")) for part in "qkv")
        if self._loader.has(f"{name}.q_norm.weight"):
            q, k = self._norm(q, f"{name}.q_norm"), self._norm(k, f"{name}.k_norm")
        local = self._is_local(number)
        frequencies = rotary_frequencies(self._config, self._head_dim, local)
        seen = self._mask(length, local)
        mixed = np.empty((len(x), self._heads * self._head_dim), dtype=np.float32)
        for start in range(0, len(x), length):
            part = slice(start, start + length)
            rotated = _rotate(q[part], frequencies), _rotate(k[part], frequencies)
            mixed[part] = self._mix(*rotated, v[part], seen)
        self._observe([f"{name}.o_proj.weight"], mixed)
        return self._linear(mixed, f"{name}.o_proj")

    def _mix(self, q: Rows, k: Rows, v: Rows, seen: npt.NDArray[np.bool_]) -> Rows:
        length, shared = len(q), self._heads // self._kv_heads
        scale = np.float32(self._config.get("query_pre_attn_scalar") or self._head_dim) ** -0.5
        # (kv heads, heads that share one, tokens, size)
        queries = q.reshape(length, self._kv_heads, shared, -1).transpose(1, 2, 0, 3)
        keys, values = k.transpose(1, 2, 0)[:, None], v.transpose(1, 0, 2)[:, None]
        scores = np.matmul(queries, keys) * np.float32(scale)
        if limit := self._config.get("attn_logit_softcapping"):
            scores = np.float32(limit) * np.tanh(scores / np.float32(limit))
        scores[..., ~seen] = _TINY
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        mixed = np.matmul(scores, values)
        result: Rows = mixed.transpose(2, 0, 1, 3).reshape(length, -1)
        return result

    def _mask(self, length: int, local: bool) -> npt.NDArray[np.bool_]:
        back = np.subtract.outer(np.arange(length), np.arange(length))
        seen = back >= 0
        window = self._config.get("sliding_window")
        mask: npt.NDArray[np.bool_] = seen & (back < window) if local and window else seen
        return mask

    def _is_local(self, number: int) -> bool:
        kinds = self._config.get("layer_types")
        if kinds:
            return bool(kinds[number] == "sliding_attention")
        if not self._gemma:
            return False
        pattern = int(self._config.get("sliding_window_pattern") or 2)
        return (number + 1) % pattern != 0

    def _split(self, x: Rows) -> Rows:
        return x.reshape(len(x), -1, self._head_dim)

    def _linear(self, x: Rows, module: str) -> Rows:
        result: Rows = x @ self._loader.load(f"{module}.weight").T
        if self._loader.has(f"{module}.bias"):
            result += self._loader.load(f"{module}.bias")
        return result

    def _norm(self, x: Rows, module: str) -> Rows:
        weight = self._loader.load(f"{module}.weight") + np.float32(self._gemma)
        mean = np.square(x).mean(axis=-1, keepdims=True)
        result: Rows = x / np.sqrt(mean + np.float32(self._config["rms_norm_eps"])) * weight
        return result


def rotary_frequencies(config: Config, head_dim: int, local: bool) -> npt.NDArray[np.float64]:
    """Radians per position of each pair. Llama 3's and linear scaling count; YaRN's does not,
    because a calibration text is much shorter than the context it was made for."""
    nested = config.get("rope_parameters") or {}
    kind = "sliding_attention" if local else "full_attention"
    scaling: dict[str, Any] = nested.get(kind) or nested or config.get("rope_scaling") or {}
    base = scaling.get("rope_theta") or config.get("rope_theta") or 10_000.0
    if local and "rope_local_base_freq" in config:
        base, scaling = config["rope_local_base_freq"], {}
    half = head_dim // 2
    frequencies: npt.NDArray[np.float64] = float(base) ** (-np.arange(half) / half)
    rope_type = scaling.get("rope_type") or scaling.get("type")
    if rope_type == "linear":
        return np.divide(frequencies, float(scaling["factor"]))
    if rope_type == "llama3":
        return _llama3(frequencies, scaling)
    return frequencies


def _llama3(
    frequencies: npt.NDArray[np.float64], scaling: dict[str, Any]
) -> npt.NDArray[np.float64]:
    low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
    turns = float(scaling["original_max_position_embeddings"]) * frequencies / (2 * np.pi)
    smooth = np.clip((turns - low) / (high - low), 0.0, 1.0)
    slowed: npt.NDArray[np.float64] = frequencies * (
        (1 - smooth) / float(scaling["factor"]) + smooth
    )
    return slowed


def _rotate(x: Rows, frequencies: npt.NDArray[np.float64]) -> Rows:
    angles = np.outer(np.arange(len(x)), frequencies)[:, None, :]
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    left, right = np.split(x, 2, axis=-1)
    return np.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1)


def _silu(x: Rows) -> Rows:
    with np.errstate(over="ignore"):  # exp of a very negative gate is infinite: the result is 0
        result: Rows = x / (1 + np.exp(-x))
    return result


def _gelu(x: Rows) -> Rows:
    """The approximation with tanh, which Gemma was trained with."""
    inner = np.float32((2 / np.pi) ** 0.5) * (x + np.float32(0.044715) * x * x * x)
    result: Rows = np.float32(0.5) * x * (1 + np.tanh(inner))
    return result
