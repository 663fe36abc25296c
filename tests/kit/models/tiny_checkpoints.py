"""Tiny random models of each architecture, as Hugging Face has them and as GGUF files."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from runtime.models.gguf import read_gguf
from tests.kit.models.tiny_model import write_out, write_tiny_model

WIDTH, FEED_FORWARD, NUM_HEADS, NUM_KV_HEADS, HEAD_DIM, NUM_LAYERS = 128, 256, 4, 2, 32, 2
WINDOW = 4
NUM_EXPERTS, NUM_EXPERTS_PER_TOK, EXPERT_WIDTH = 4, 2, 64
DENSE = ("llama", "qwen2", "qwen3", "gemma2", "gemma3", "phi3")
WITH_EXPERTS = ("qwen3moe", "mixtral")
ARCHITECTURES = (*DENSE, *WITH_EXPERTS)
_TIED = ("gemma2", "gemma3", "qwen3")
_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate": "ffn_gate_inp",
    "block_sparse_moe.gate": "ffn_gate_inp",
    "gate_proj": "ffn_gate_exps",
    "up_proj": "ffn_up_exps",
    "down_proj": "ffn_down_exps",
    "w1": "ffn_gate_exps",
    "w3": "ffn_up_exps",
    "w2": "ffn_down_exps",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_GEMMA_NAMES = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}

Weights = dict[str, np.ndarray]


def random_weights(architecture: str, num_tokens: int, *, seed: int = 0) -> Weights:
    """Weights by Hugging Face's names, all of them exact in bfloat16."""
    random = np.random.default_rng(seed)
    gemma, phi = architecture.startswith("gemma"), architecture == "phi3"
    q, kv = NUM_HEADS * HEAD_DIM, NUM_KV_HEADS * HEAD_DIM
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (num_tokens, WIDTH),
        "model.norm.weight": (WIDTH,),
    }
    if architecture not in _TIED:
        shapes["lm_head.weight"] = (num_tokens, WIDTH)
    attention = {"q_proj": (q, WIDTH), "k_proj": (kv, WIDTH), "v_proj": (kv, WIDTH)}
    mlp = {"gate_proj": (FEED_FORWARD, WIDTH), "up_proj": (FEED_FORWARD, WIDTH)}
    if phi:
        attention = {"qkv_proj": (q + 2 * kv, WIDTH)}
        mlp = {"gate_up_proj": (2 * FEED_FORWARD, WIDTH)}
    norms = ["input_layernorm", "post_attention_layernorm"]
    if gemma:
        norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
    for layer in range(NUM_LAYERS):
        prefix = f"model.layers.{layer}"
        for name, shape in (attention | {"o_proj": (WIDTH, q)}).items():
            shapes[f"{prefix}.self_attn.{name}.weight"] = shape
            if architecture == "qwen2" and name != "o_proj":
                shapes[f"{prefix}.self_attn.{name}.bias"] = shape[:1]
        if architecture in WITH_EXPERTS:
            shapes |= _expert_shapes(architecture, prefix)
        else:
            for name, shape in (mlp | {"down_proj": (WIDTH, FEED_FORWARD)}).items():
                shapes[f"{prefix}.mlp.{name}.weight"] = shape
        if architecture in ("qwen3", "qwen3moe", "gemma3"):
            shapes[f"{prefix}.self_attn.q_norm.weight"] = (HEAD_DIM,)
            shapes[f"{prefix}.self_attn.k_norm.weight"] = (HEAD_DIM,)
        shapes |= {f"{prefix}.{norm}.weight": (WIDTH,) for norm in norms}
    centre = 0.0 if gemma else 1.0
    return {name: _random(random, name, shape, centre) for name, shape in shapes.items()}


def _expert_shapes(architecture: str, prefix: str) -> dict[str, tuple[int, ...]]:
    mixtral = architecture == "mixtral"
    module = f"{prefix}.block_sparse_moe" if mixtral else f"{prefix}.mlp"
    width = FEED_FORWARD if mixtral else EXPERT_WIDTH
    gate, up, down = ("w1", "w3", "w2") if mixtral else ("gate_proj", "up_proj", "down_proj")
    shapes: dict[str, tuple[int, ...]] = {f"{module}.gate.weight": (NUM_EXPERTS, WIDTH)}
    for expert in range(NUM_EXPERTS):
        for name in (gate, up):
            shapes[f"{module}.experts.{expert}.{name}.weight"] = (width, WIDTH)
        shapes[f"{module}.experts.{expert}.{down}.weight"] = (WIDTH, width)
    return shapes


def _random(
    random: np.random.Generator, name: str, shape: tuple[int, ...], centre: float
) -> np.ndarray:
    if "norm" in name:
        values = random.normal(centre, 0.2, shape)
    else:
        values = random.normal(0, 2 * shape[-1] ** -0.5, shape)
    bits = values.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
    return bits.view(np.float32)


def write_gguf(
    path: Path,
    architecture: str,
    weights: Weights,
    *,
    vocabulary: Mapping[str, Any] | None = None,
    split_max_tensors: int = 0,
    extra: Mapping[str, np.ndarray] | None = None,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    context: int = 64,
) -> Path:
    """Write the weights the way llama.cpp's converter does. Matrices become `kind`."""
    stored_as = "llama" if architecture == "mixtral" else architecture
    writer = gguf.GGUFWriter(path, stored_as, split_max_tensors=split_max_tensors)
    _add_shape(writer, architecture, context)
    add_vocabulary(writer, vocabulary or byte_level_vocabulary(path.parent))
    for name, stored in _stored_tensors(architecture, weights).items():
        if stored.ndim >= 2 and "ffn_gate_inp" not in name and kind.name != "F32":
            packed = gguf.quants.quantize(stored, kind)
            writer.add_tensor(name, packed, raw_dtype=kind)
        else:
            writer.add_tensor(name, stored)
    for name, values in (extra or {}).items():
        writer.add_tensor(name, values)
    write_out(writer)
    return path


def tiny_gguf(
    folder: Path,
    architecture: str,
    *,
    name: str = "",
    seed: int = 0,
    more: Mapping[str, Any] | None = None,
    change: Callable[[Weights], object] = len,
    **options: Any,
) -> tuple[Path, Weights]:
    """A GGUF file with the tiny model's vocabulary and `more`, and the weights that Hugging Face's
    checkpoint would have."""
    vocabulary = byte_level_vocabulary(folder) | dict(more or {})
    weights = random_weights(architecture, len(vocabulary["tokenizer.ggml.tokens"]), seed=seed)
    change(weights)
    path = folder / (name or f"{architecture}.gguf")
    return write_gguf(path, architecture, weights, vocabulary=vocabulary, **options), weights


def byte_level_vocabulary(folder: Path) -> dict[str, Any]:
    """The vocabulary of the tiny model, by GGUF's keys."""
    path = folder / "vocabulary.gguf"
    if not path.exists():
        write_tiny_model(path)
    metadata = read_gguf(path).metadata
    return {key: value for key, value in metadata.items() if key.startswith("tokenizer.")}


def sentencepiece_vocabulary(*, add_space_prefix: bool = True) -> dict[str, Any]:
    """A small vocabulary with scores: control tokens, bytes, prefixes of a few words, blanks."""
    words = ("the", "there", "then", "hello", "world", "quick", "naïve", "日本語", "...", "1", "2")
    pieces = {"▁": None, "\n": None}
    for word in words:
        for text in (f"▁{word}", word):
            pieces |= dict.fromkeys(text)
            pieces |= {text[:end]: None for end in range(2, len(text) + 1)}
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    kinds = [2, 3, 3, *[6] * 256, *[1] * len(pieces)]
    tokens += ["<|user|>", "    ", "\n\n"]
    kinds += [3, 4, 4]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [-float(index) for index in range(len(tokens))],
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_space_prefix": add_space_prefix,
    }


def add_vocabulary(writer: gguf.GGUFWriter, vocabulary: Mapping[str, Any]) -> None:
    """Add metadata of any of the types that vocabularies have."""
    for key, value in vocabulary.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_array(key, list(value))


def _add_shape(writer: gguf.GGUFWriter, architecture: str, context: int) -> None:
    writer.add_name("tiny")  # llama.cpp treats some names specially
    writer.add_context_length(context)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(NUM_LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(NUM_HEADS)
    writer.add_head_count_kv(NUM_KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_rope_freq_base(10_000.0)
    if architecture == "phi3":
        writer.add_rope_scaling_orig_ctx_len(64)
    if architecture in WITH_EXPERTS:
        writer.add_expert_count(NUM_EXPERTS)
        writer.add_expert_used_count(NUM_EXPERTS_PER_TOK)
    if architecture == "qwen3moe":
        writer.add_expert_feed_forward_length(EXPERT_WIDTH)
    if architecture.startswith("gemma"):
        writer.add_key_length(HEAD_DIM)
        writer.add_value_length(HEAD_DIM)
        writer.add_sliding_window(WINDOW)
    if architecture == "gemma2":
        writer.add_attn_logit_softcapping(50.0)
        writer.add_final_logit_softcapping(30.0)


def _stored_tensors(architecture: str, weights: Weights) -> Weights:
    """By llama.cpp's names; the experts of a layer become one tensor."""
    tensors: Weights = {}
    experts: dict[str, list[np.ndarray]] = {}
    for name, values in weights.items():
        stored = _as_stored(architecture, name, values)
        if ".experts." in name:
            experts.setdefault(_stored_name(architecture, name), []).append(stored)
        else:
            tensors[_stored_name(architecture, name)] = stored
    return tensors | {name: np.stack(parts) for name, parts in experts.items()}


def _stored_name(architecture: str, name: str) -> str:
    names = _NAMES | _GEMMA_NAMES if architecture.startswith("gemma") else _NAMES
    module, _, last = name.rpartition(".")
    if not module.startswith("model.layers."):
        return f"{names[module]}.{last}"
    layer, _, inner = module.removeprefix("model.layers.").partition(".")
    if ".experts." in inner:
        inner = inner.rpartition(".")[2]
    return f"blk.{layer}.{names[inner]}.{last}"


def _as_stored(architecture: str, name: str, values: np.ndarray) -> np.ndarray:
    if architecture.startswith("gemma") and "norm" in name:
        return values + np.float32(1)
    if architecture in ("llama", "mixtral") and (".q_proj" in name or ".k_proj" in name):
        halves = values.reshape(-1, 2, HEAD_DIM // 2, *values.shape[1:])
        return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))
    return values
