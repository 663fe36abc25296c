"""Random LoRA adapters of the tiny model, and what the model's weights are with them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import gguf
import numpy as np

from tests.kit.models.tiny_model import (
    FEED_FORWARD,
    NUM_HEADS,
    NUM_KV_HEADS,
    NUM_LAYERS,
    WIDTH,
    write_out,
)

_NARROW = WIDTH // NUM_HEADS * NUM_KV_HEADS
SHAPES: Mapping[str, tuple[int, int]] = {
    "attn_q": (WIDTH, WIDTH),
    "attn_k": (_NARROW, WIDTH),
    "attn_v": (_NARROW, WIDTH),
    "attn_output": (WIDTH, WIDTH),
    "ffn_gate": (FEED_FORWARD, WIDTH),
    "ffn_up": (FEED_FORWARD, WIDTH),
    "ffn_down": (WIDTH, FEED_FORWARD),
}
"""Rows and columns of a layer's matrices."""

Changes = dict[str, np.ndarray]


def write_tiny_adapter(
    path: Path,
    *,
    seed: int = 1,
    rank: int = 8,
    alpha: float = 16.0,
    parts: Sequence[str] = tuple(SHAPES),
    strength: float = 0.2,
) -> Changes:
    """Write an adapter of `parts` of every layer. Returns what it adds to the weights."""
    names = [f"blk.{layer}.{part}" for layer in range(NUM_LAYERS) for part in parts]
    return write_adapter(
        path,
        {f"{name}.weight": SHAPES[name.split(".")[-1]] for name in names},
        seed=seed,
        rank=rank,
        alpha=alpha,
        strength=strength,
    )


def write_adapter(
    path: Path,
    shapes: Mapping[str, tuple[int, int]],
    *,
    seed: int = 1,
    rank: int = 8,
    alpha: float = 16.0,
    strength: float = 0.2,
    architecture: str = "llama",
    kind: type[np.floating] = np.float32,
    keys: Mapping[str, str] | None = None,
) -> Changes:
    """Write an adapter of the weights with these names and shapes (rows, columns). `keys` replace
    what the file says of itself. Returns what it adds to the weights."""
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, architecture)
    for key, text in {"general.type": "adapter", "adapter.type": "lora", **(keys or {})}.items():
        writer.add_string(key, text)
    writer.add_float32("adapter.lora.alpha", alpha)
    changes: Changes = {}
    for name, (rows, columns) in shapes.items():
        first = random.normal(0, columns**-0.5, (rank, columns)).astype(kind)
        second = random.normal(0, strength, (rows, rank)).astype(kind)
        writer.add_tensor(f"{name}.lora_a", first)
        writer.add_tensor(f"{name}.lora_b", second)
        changes[name] = alpha / rank * (second.astype(np.float32) @ first.astype(np.float32))
    write_out(writer)
    return changes
