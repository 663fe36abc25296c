"""A decoder in plain numpy, after Hugging Face's model classes: what a checkpoint computes."""

from typing import Any

import numpy as np

Weights = dict[str, np.ndarray]


def last_logits(config: dict[str, Any], weights: Weights, token_ids: list[int]) -> np.ndarray:
    """The logits after the last token, in float64."""
    return _Decoder(config, weights).logits(token_ids)[-1]


class _Decoder:
    def __init__(self, config: dict[str, Any], weights: Weights) -> None:
        self.config = config
        self.weights = {name: values.astype(np.float64) for name, values in weights.items()}
        self.gemma = config["model_type"].startswith("gemma")

    def logits(self, token_ids: list[int]) -> np.ndarray:
        embedding = self.weights["model.embed_tokens.weight"]
        hidden = embedding[token_ids]
        if self.gemma:
            hidden = hidden * np.sqrt(self.config["hidden_size"])
        for layer in range(self.config["num_hidden_layers"]):
            hidden = self._layer(hidden, layer, f"model.layers.{layer}")
        head = embedding if self.config["tie_word_embeddings"] else self.weights["lm_head.weight"]
        logits = self._norm(hidden, "model.norm") @ head.T
        return _softcap(logits, self.config.get("final_logit_softcapping"))

    def _layer(self, hidden: np.ndarray, layer: int, name: str) -> np.ndarray:
        attended = self._attend(self._norm(hidden, f"{name}.input_layernorm"), layer, name)
        if not self.gemma:
            hidden = hidden + attended
            normed = self._norm(hidden, f"{name}.post_attention_layernorm")
            return hidden + self._mlp(normed, name)
        hidden = hidden + self._norm(attended, f"{name}.post_attention_layernorm")
        moved = self._mlp(self._norm(hidden, f"{name}.pre_feedforward_layernorm"), name)
        return hidden + self._norm(moved, f"{name}.post_feedforward_layernorm")

    def _mlp(self, x: np.ndarray, name: str) -> np.ndarray:
        for module in (f"{name}.mlp", f"{name}.block_sparse_moe"):
            if f"{module}.gate.weight" in self.weights:
                return self._experts(x, module)
        if f"{name}.mlp.gate_up_proj.weight" in self.weights:
            gate, up = np.split(self._linear(x, f"{name}.mlp.gate_up_proj"), 2, axis=-1)
        else:
            gate = self._linear(x, f"{name}.mlp.gate_proj")
            up = self._linear(x, f"{name}.mlp.up_proj")
        if self.gemma:
            inner = np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)
            active = 0.5 * gate * (1 + np.tanh(inner))
        else:
            active = gate / (1 + np.exp(-gate))
        return self._linear(active * up, f"{name}.mlp.down_proj")

    def _experts(self, x: np.ndarray, name: str) -> np.ndarray:
        """The chosen experts' answers, by the softmax over all; the chosen ones' sum to 1."""
        scores = self._linear(x, f"{name}.gate")
        chances = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = np.zeros_like(x)
        parts = ("w1", "w3", "w2") if "sparse" in name else ("gate_proj", "up_proj", "down_proj")
        for row, chance in enumerate(chances):
            chosen = np.argsort(-chance)[: self.config["num_experts_per_tok"]]
            for expert in chosen:
                share = chance[expert] / chance[chosen].sum()
                gate, up, down = (f"{name}.experts.{expert}.{part}" for part in parts)
                inner = self._linear(x[row], gate)
                inner = inner / (1 + np.exp(-inner)) * self._linear(x[row], up)
                mixed[row] += share * self._linear(inner, down)
        return mixed

    def _attend(self, x: np.ndarray, layer: int, name: str) -> np.ndarray:
        q, k, v = self._qkv(x, f"{name}.self_attn")
        full = self.config.get("layer_types", ["full_attention"] * (layer + 1))[layer]
        local = full != "full_attention"
        base = self.config["rope_theta"]
        if local and "rope_local_base_freq" in self.config:
            base = self.config["rope_local_base_freq"]
        q, k = _rotate(q, base), _rotate(k, base)
        repeat = q.shape[1] // k.shape[1]
        k, v = np.repeat(k, repeat, axis=1), np.repeat(v, repeat, axis=1)
        scale = self.config.get("query_pre_attn_scalar", q.shape[-1]) ** -0.5
        scores = np.einsum("qhd,khd->hqk", q, k) * scale
        scores = _softcap(scores, self.config.get("attn_logit_softcapping"))
        back = np.subtract.outer(np.arange(len(x)), np.arange(len(x)))
        seen = back >= 0
        if local:
            seen &= back < self.config["sliding_window"]
        scores = np.where(seen, scores, -np.inf)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", scores, v).reshape(len(x), -1)
        return self._linear(mixed, f"{name}.self_attn.o_proj")

    def _qkv(self, x: np.ndarray, name: str) -> list[np.ndarray]:
        heads, kv_heads = self.config["num_attention_heads"], self.config["num_key_value_heads"]
        size = self.config["head_dim"]
        if f"{name}.qkv_proj.weight" in self.weights:
            joined = self._linear(x, f"{name}.qkv_proj")
            parts = np.split(joined, [heads * size, (heads + kv_heads) * size], axis=-1)
        else:
            parts = [self._linear(x, f"{name}.{part}_proj") for part in "qkv"]
        q, k, v = (part.reshape(len(x), -1, size) for part in parts)
        if f"{name}.q_norm.weight" in self.weights:
            q, k = self._norm(q, f"{name}.q_norm"), self._norm(k, f"{name}.k_norm")
        return [q, k, v]

    def _linear(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self.weights[f"{name}.weight"].T + self.weights.get(f"{name}.bias", 0.0)

    def _norm(self, x: np.ndarray, name: str) -> np.ndarray:
        weight = self.weights[f"{name}.weight"] + (1.0 if self.gemma else 0.0)
        mean = np.square(x).mean(axis=-1, keepdims=True)
        return x / np.sqrt(mean + self.config["rms_norm_eps"]) * weight


def _rotate(x: np.ndarray, base: float) -> np.ndarray:
    half = x.shape[-1] // 2
    angles = np.outer(np.arange(len(x)), base ** (-np.arange(half) / half))[:, None, :]
    left, right = x[..., :half], x[..., half:]
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1)


def _softcap(values: np.ndarray, limit: float | None) -> np.ndarray:
    return limit * np.tanh(values / limit) if limit else values
