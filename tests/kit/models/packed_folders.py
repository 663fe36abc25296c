"""Tiny checkpoints as Hugging Face folders: plain, or packed the way AutoAWQ and AutoGPTQ do it."""

import json
import struct
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from tests.kit.models.hf_folders import NUM_PADDED, QWEN2, byte_level, write_folder
from tests.kit.models.tiny_checkpoints import (
    EXPERT_WIDTH,
    FEED_FORWARD,
    HEAD_DIM,
    NUM_EXPERTS,
    NUM_EXPERTS_PER_TOK,
    NUM_HEADS,
    NUM_KV_HEADS,
    NUM_LAYERS,
    WIDTH,
    Weights,
    random_weights,
)

CLASSES = {
    "llama": ("LlamaForCausalLM", "llama"),
    "mistral": ("MistralForCausalLM", "mistral"),
    "qwen2": ("Qwen2ForCausalLM", "qwen2"),
    "qwen3": ("Qwen3ForCausalLM", "qwen3"),
    "gemma2": ("Gemma2ForCausalLM", "gemma2"),
    "gemma3": ("Gemma3ForCausalLM", "gemma3_text"),
    "phi3": ("Phi3ForCausalLM", "phi3"),
    "qwen3moe": ("Qwen3MoeForCausalLM", "qwen3_moe"),
    "mixtral": ("MixtralForCausalLM", "mixtral"),
}
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)

Stored = dict[str, tuple[str, np.ndarray]]
"""Tensors as they lie in the file, by name, each with safetensors' name of its type."""


@cache
def tokenizer() -> Tokenizer:
    return byte_level(["the quick brown fox jumps over the lazy dog"] * 3, QWEN2, vocab_size=300)


def make_weights(architecture: str, *, seed: int = 0) -> Weights:
    """Random weights, exact in bfloat16, for the vocabulary of the folders."""
    count = tokenizer().get_vocab_size() + NUM_PADDED
    return random_weights("llama" if architecture == "mistral" else architecture, count, seed=seed)


def plain(weights: Weights, kind: str = "BF16") -> Stored:
    """Weights as float32, float16 or bfloat16."""
    return {name: (kind, _as_kind(values, kind)) for name, values in weights.items()}


def write_checkpoint(
    folder: Path,
    architecture: str,
    stored: Stored,
    *,
    num_files: int = 1,
    config: Mapping[str, Any] | None = None,
) -> Path:
    """Write a folder with these tensors, split into so many files."""
    write_folder(folder, tokenizer(), config={**_config(architecture, stored), **(config or {})})
    if num_files == 1:
        write_tensors(folder / "model.safetensors", stored)
        return folder
    names = list(stored)
    weight_map = {}
    for number in range(num_files):
        file = f"model-{number + 1:05}-of-{num_files:05}.safetensors"
        part = {name: stored[name] for name in names[number::num_files]}
        write_tensors(folder / file, part)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def plain_source(folder: Path, architecture: str = "llama", **options: Any) -> Path:
    """A plain checkpoint of random weights, in `source`."""
    return write_checkpoint(
        folder / "source", architecture, plain(make_weights(architecture)), **options
    )


def write_tensors(path: Path, stored: Stored) -> None:
    """A safetensors file: the length of the header, the header, the data."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, (kind, values) in stored.items():
        end = len(data) + values.nbytes
        header[name] = {"dtype": kind, "shape": values.shape, "data_offsets": [len(data), end]}
        data += values.tobytes()
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data)


def awq_config(**changes: Any) -> dict[str, Any]:
    section = {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm"}
    return {"torch_dtype": "float16", "quantization_config": {**section, **changes}}


def gptq_config(**changes: Any) -> dict[str, Any]:
    section = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False}
    return {"torch_dtype": "float16", "quantization_config": {**section, **changes}}


class Quantized:
    """Random integers of one weight (out, in): `levels` of 4 or 8 bits, one step and zero point
    for each output and group of inputs, and `groups`, the group of each input."""

    def __init__(
        self,
        shape: tuple[int, int],
        group_size: int = 128,
        *,
        symmetric: bool = True,
        act_order: bool = False,
        bits: int = 4,
        seed: int = 0,
    ) -> None:
        random = np.random.default_rng(seed)
        outputs, inputs = shape
        self.bits = bits
        self.levels = random.integers(0, 1 << bits, shape)
        self.groups = np.arange(inputs) // group_size
        num_groups = int(self.groups.max()) + 1
        if act_order:
            random.shuffle(self.groups)
        size = (num_groups, outputs)
        self.scales = random.uniform(0.001, 0.02, size).astype(np.float16)
        middle, end = 1 << (bits - 1), 1 << bits
        self.zeros = np.full(size, middle) if symmetric else random.integers(0, end, size)

    @property
    def values(self) -> np.ndarray:
        """What the integers mean, value by value."""
        exact = np.empty(self.levels.shape, dtype=np.float32)
        for column, group in enumerate(self.groups):
            steps, zeros = self.scales[group].astype(np.float32), self.zeros[group]
            exact[:, column] = (self.levels[:, column] - zeros) * steps
        return exact

    def awq(self, module: str) -> Stored:
        return {
            f"{module}.qweight": ("I32", _pack(self.levels.T, AWQ_ORDER)),
            f"{module}.qzeros": ("I32", _pack(self.zeros, AWQ_ORDER)),
            f"{module}.scales": ("F16", self.scales),
        }

    def gptq(self, module: str, *, v2: bool = False) -> Stored:
        in_order = range(32 // self.bits)
        along_inputs = np.ascontiguousarray(_pack(self.levels, in_order).T)
        zeros = self.zeros if v2 else self.zeros - 1
        return {
            f"{module}.qweight": ("I32", along_inputs),
            f"{module}.qzeros": ("I32", _pack(zeros, in_order)),
            f"{module}.scales": ("F16", self.scales),
            f"{module}.g_idx": ("I32", self.groups.astype(np.int32)),
        }


def quantize(
    weights: Weights, method: str, *, v2: bool = False, **options: Any
) -> tuple[Stored, dict[str, Quantized]]:
    """A model whose linear layers are random integers, and those by the names of the weights.

    A router stays plain, as AutoAWQ and AutoGPTQ leave it.
    """
    stored, made = {}, {}
    for number, (name, values) in enumerate(weights.items()):
        if not (name.endswith("_proj.weight") or ".experts." in name):
            stored |= plain({name: values}, "F16")
            continue
        quantized = Quantized(values.shape, seed=number, **options)
        module = name.removesuffix(".weight")
        stored |= quantized.awq(module) if method == "awq" else quantized.gptq(module, v2=v2)
        made[name] = quantized
    return stored, made


def _pack(numbers: np.ndarray, order: Any) -> np.ndarray:
    """As many neighbours of a row as `order` has in an integer, the first named in the low bits."""
    count = len(order)
    packed = np.zeros((numbers.shape[0], numbers.shape[1] // count), dtype=np.int64)
    for n, place in enumerate(order):
        packed += numbers[:, place::count].astype(np.int64) << (32 // count * n)
    return packed.astype(np.uint32).view(np.int32)


def _as_kind(values: np.ndarray, kind: str) -> np.ndarray:
    if kind == "BF16":
        return (values.view(np.uint32) >> 16).astype(np.uint16)
    return values.astype(np.float16 if kind == "F16" else np.float32)


def _config(architecture: str, stored: Stored) -> dict[str, Any]:
    name, model_type = CLASSES[architecture]
    config: dict[str, Any] = {
        "architectures": [name],
        "model_type": model_type,
        "hidden_size": WIDTH,
        "intermediate_size": FEED_FORWARD,
        "num_hidden_layers": NUM_LAYERS,
        "num_attention_heads": NUM_HEADS,
        "num_key_value_heads": NUM_KV_HEADS,
        "head_dim": HEAD_DIM,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10_000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": "lm_head.weight" not in stored,
        "torch_dtype": "bfloat16",
    }
    if architecture.startswith("gemma"):
        config |= {"query_pre_attn_scalar": HEAD_DIM, "sliding_window": 4}
    if architecture == "mixtral":
        config |= {"num_local_experts": NUM_EXPERTS, "num_experts_per_tok": NUM_EXPERTS_PER_TOK}
    if architecture == "qwen3moe":
        config |= {
            "num_experts": NUM_EXPERTS,
            "num_experts_per_tok": NUM_EXPERTS_PER_TOK,
            "moe_intermediate_size": EXPERT_WIDTH,
            "norm_topk_prob": True,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
        }
    return config
