"""The tiny model's logits, computed plainly in 64 bits."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from runtime.llama_library.self_check.tiny import (
    NORM_EPSILON,
    NUM_HEADS,
    NUM_KV_HEADS,
    NUM_LAYERS,
    ROPE_BASE,
    Values,
)

Rows: TypeAlias = NDArray[np.float64]


def reference_logits(weights: Mapping[str, Values], token_ids: Sequence[int]) -> Rows:
    """The logits after each token, shape (tokens, vocabulary)."""
    rows: Rows = weights["token_embd"][list(token_ids)].astype(np.float64)
    for layer in range(NUM_LAYERS):
        part = f"blk.{layer}."
        own = {name.removeprefix(part): each for name, each in weights.items() if part in name}
        rows = rows + _attention(own, _normalized(rows))
        rows = rows + _feed_forward(own, _normalized(rows))
    return _normalized(rows) @ weights["output"].T


def _attention(weights: Mapping[str, Values], rows: Rows) -> Rows:
    count, head_size = len(rows), rows.shape[1] // NUM_HEADS
    query = _rotated((rows @ weights["attn_q"].T).reshape(count, NUM_HEADS, head_size))
    key = _rotated((rows @ weights["attn_k"].T).reshape(count, NUM_KV_HEADS, head_size))
    value = (rows @ weights["attn_v"].T).reshape(count, NUM_KV_HEADS, head_size)
    shared = NUM_HEADS // NUM_KV_HEADS
    key, value = np.repeat(key, shared, axis=1), np.repeat(value, shared, axis=1)
    scores = np.einsum("qhd,khd->hqk", query, key) / head_size**0.5
    scores = np.where(np.tri(count, dtype=bool), scores, -np.inf)
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    seen = np.einsum("hqk,khd->qhd", shares, value).reshape(count, -1)
    result: Rows = seen @ weights["attn_output"].T
    return result


def _feed_forward(weights: Mapping[str, Values], rows: Rows) -> Rows:
    gate = rows @ weights["ffn_gate"].T
    raised = gate / (1 + np.exp(-gate)) * (rows @ weights["ffn_up"].T)
    result: Rows = raised @ weights["ffn_down"].T
    return result


def _normalized(rows: Rows) -> Rows:
    result: Rows = rows / np.sqrt((rows**2).mean(axis=-1, keepdims=True) + NORM_EPSILON)
    return result


def _rotated(heads: Rows) -> Rows:
    """Each pair of neighbouring values turned by an angle that its position and place give."""
    size = heads.shape[-1]
    angles = np.outer(np.arange(len(heads)), ROPE_BASE ** -(np.arange(0, size, 2) / size))
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    even, odd = heads[..., 0::2], heads[..., 1::2]
    return np.stack([even * cos - odd * sin, even * sin + odd * cos], -1).reshape(heads.shape)
