"""Tiny encoders in GGUF files, of random weights, and what they compute: BERT's forward pass in
numpy. As rerankers they have one label."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import gguf
import numpy as np

from tests.kit.models.tiny_model import write_out

Weights: TypeAlias = dict[str, np.ndarray]

WIDTH, NUM_LAYERS, NUM_HEADS, FEED_FORWARD = 32, 2, 4, 64
CONTEXT = 128
EPSILON = 1e-12
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CLS, SEP = SPECIAL.index("[CLS]"), SPECIAL.index("[SEP]")
_WORDS = """
the cat dog fox sat on mat ran over lazy quick brown what is a where who query passage search
document : . ? , paris berlin capital of france germany
"""
WORDS = (*_WORDS.split(), *"abcdefghijklmnopqrstuvwxyz0123456789")
_TOKENS = (*SPECIAL, *(f"▁{word}" for word in dict.fromkeys(WORDS)), *"abcdefghijklmnopqrstuvwxyz")

PoolingName = Literal["mean", "cls", "last", "rank"]
_POOLING = {"mean": 1, "cls": 2, "last": 3, "rank": 4}


def write_tiny_encoder(
    path: Path, pooling: PoolingName, *, name: str = "tiny encoder", num_labels: int = 1
) -> Weights:
    """Write a BERT with this pooling, the same every time. Returns its weights by name."""
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name(name)
    _add_shape(writer)
    writer.add_uint32("bert.pooling_type", _POOLING[pooling])
    _add_vocabulary(writer)
    weights = _weights(num_labels if pooling == "rank" else 0)
    if pooling == "rank":
        writer.add_array("bert.classifier.output_labels", [f"L{n}" for n in range(num_labels)])
    for tensor, values in weights.items():
        writer.add_tensor(tensor, values)
    write_out(writer)
    return weights


def encoded(weights: Weights, token_ids: Sequence[int], segments: Sequence[int]) -> np.ndarray:
    """The vectors of a text's tokens. `segments` are the numbers of the text that each is of."""
    rows = weights["token_embd.weight"][list(token_ids)]
    rows = rows + weights["token_types.weight"][list(segments)]
    rows = rows + weights["position_embd.weight"][: len(token_ids)]
    rows = _normed(weights, "token_embd_norm", rows)
    for layer in range(NUM_LAYERS):
        at = f"blk.{layer}"
        attended = _linear(weights, f"{at}.attn_output", _attention(weights, at, rows))
        rows = _normed(weights, f"{at}.attn_output_norm", rows + attended)
        inner = _linear(weights, f"{at}.ffn_up", rows)
        inner = 0.5 * inner * (1 + np.tanh(0.79788456 * (inner + 0.044715 * inner**3)))
        rows = _normed(
            weights, f"{at}.layer_output_norm", rows + _linear(weights, f"{at}.ffn_down", inner)
        )
    return rows


def logit(weights: Weights, token_ids: Sequence[int], segments: Sequence[int]) -> float:
    """The reranker's score of a query and a document."""
    first = encoded(weights, token_ids, segments)[:1]
    return float(_linear(weights, "cls.output", np.tanh(_linear(weights, "cls", first)))[0, 0])


def _attention(weights: Weights, at: str, rows: np.ndarray) -> np.ndarray:
    heads = [
        _linear(weights, f"{at}.attn_{part}", rows).reshape(len(rows), NUM_HEADS, -1)
        for part in "qkv"
    ]
    query, key, value = (each.transpose(1, 0, 2) for each in heads)
    scores = query @ key.transpose(0, 2, 1) / np.sqrt(WIDTH / NUM_HEADS)
    weight = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weight /= weight.sum(axis=-1, keepdims=True)
    return (weight @ value).transpose(1, 0, 2).reshape(len(rows), WIDTH)


def _linear(weights: Weights, name: str, rows: np.ndarray) -> np.ndarray:
    return rows @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def _normed(weights: Weights, name: str, rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(axis=1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + EPSILON)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _add_shape(writer: gguf.GGUFWriter) -> None:
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(NUM_LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(NUM_HEADS)
    writer.add_layer_norm_eps(EPSILON)
    writer.add_causal_attention(False)


def _add_vocabulary(writer: gguf.GGUFWriter) -> None:
    kinds = [gguf.TokenType.CONTROL] * len(SPECIAL)
    kinds += [gguf.TokenType.NORMAL] * (len(_TOKENS) - len(SPECIAL))
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("jina-v2-en")
    writer.add_token_type_count(2)
    writer.add_token_list(list(_TOKENS))
    writer.add_token_types(kinds)
    writer.add_bos_token_id(CLS)
    writer.add_unk_token_id(SPECIAL.index("[UNK]"))
    writer.add_sep_token_id(SEP)
    writer.add_pad_token_id(SPECIAL.index("[PAD]"))
    writer.add_mask_token_id(SPECIAL.index("[MASK]"))


def _weights(num_labels: int) -> Weights:
    random = np.random.default_rng(0)
    weights: Weights = {}

    def add(name: str, *shape: int, scale: float = 1.0) -> None:
        spread = scale * shape[-1] ** -0.5
        weights[f"{name}.weight"] = random.normal(0, spread, shape).astype(np.float32)

    def add_linear(name: str, rows: int, columns: int, scale: float = 2.0) -> None:
        add(name, rows, columns, scale=scale)
        weights[f"{name}.bias"] = random.normal(0, 0.1, rows).astype(np.float32)

    def add_norm(name: str) -> None:
        weights[f"{name}.weight"] = random.normal(1, 0.1, WIDTH).astype(np.float32)
        weights[f"{name}.bias"] = random.normal(0, 0.1, WIDTH).astype(np.float32)

    add("token_embd", len(_TOKENS), WIDTH, scale=3)
    add("token_types", 2, WIDTH, scale=3)
    add("position_embd", CONTEXT, WIDTH)
    add_norm("token_embd_norm")
    for layer in range(NUM_LAYERS):
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add_linear(f"blk.{layer}.{part}", WIDTH, WIDTH)
        add_norm(f"blk.{layer}.attn_output_norm")
        add_linear(f"blk.{layer}.ffn_up", FEED_FORWARD, WIDTH)
        add_linear(f"blk.{layer}.ffn_down", WIDTH, FEED_FORWARD)
        add_norm(f"blk.{layer}.layer_output_norm")
    if num_labels:
        add_linear("cls", WIDTH, WIDTH)
        add_linear("cls.output", num_labels, WIDTH, scale=4)
    return weights
