"""Shapes of well-known models, so that a plan needs no download.

Each entry has the fields of the model's own `config.json` that the planner needs, and is read like
that file.
"""

from collections.abc import Mapping
from typing import Any

_QWEN3 = {"model_type": "qwen3", "head_dim": 128, "vocab_size": 151_936}
_LLAMA3 = {"model_type": "llama", "vocab_size": 128_256, "max_position_embeddings": 131_072}


def _sizes(
    hidden: int, layers: int, heads: int, kv_heads: int, intermediate: int
) -> dict[str, int]:
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": intermediate,
    }


def _qwen3(
    hidden: int, layers: int, heads: int, intermediate: int, *, tied: bool
) -> dict[str, Any]:
    sizes = _sizes(hidden, layers, heads, 8, intermediate)
    return {
        **_QWEN3,
        **sizes,
        "max_position_embeddings": 40_960,
        "tie_word_embeddings": tied,
    }


KNOWN_CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "qwen3-0.6b": _qwen3(1024, 28, 16, 3072, tied=True),
    "qwen3-1.7b": _qwen3(2048, 28, 16, 6144, tied=True),
    "qwen3-4b": _qwen3(2560, 36, 32, 9728, tied=True),
    "qwen3-8b": _qwen3(4096, 36, 32, 12_288, tied=False),
    "qwen3-14b": _qwen3(5120, 40, 40, 17_408, tied=False),
    "qwen3-32b": _qwen3(5120, 64, 64, 25_600, tied=False),
    "qwen3-30b-a3b": {
        **_QWEN3,
        **_sizes(2048, 48, 32, 4, 6144),
        "model_type": "qwen3_moe",
        "max_position_embeddings": 40_960,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 768,
        "tie_word_embeddings": False,
    },
    "qwen2.5-7b": {
        **_sizes(3584, 28, 28, 4, 18_944),
        "model_type": "qwen2",
        "vocab_size": 152_064,
        "max_position_embeddings": 32_768,
        "tie_word_embeddings": False,
    },
    "qwen2.5-coder-0.5b-instruct": {
        **_sizes(896, 24, 14, 2, 4864),
        "model_type": "qwen2",
        "vocab_size": 151_936,
        "max_position_embeddings": 32_768,
        "tie_word_embeddings": True,
    },
    "gemma-3-270m": {
        **_sizes(640, 18, 4, 1, 2048),
        "model_type": "gemma3_text",
        "head_dim": 256,
        "vocab_size": 262_144,
        "max_position_embeddings": 32_768,
        "sliding_window": 512,
    },
    "llama-3.2-1b": {
        **_LLAMA3,
        **_sizes(2048, 16, 32, 8, 8192),
        "head_dim": 64,
        "tie_word_embeddings": True,
    },
    "llama-3.2-3b": {
        **_LLAMA3,
        **_sizes(3072, 28, 24, 8, 8192),
        "head_dim": 128,
        "tie_word_embeddings": True,
    },
    "llama-3.1-8b": {
        **_LLAMA3,
        **_sizes(4096, 32, 32, 8, 14_336),
        "tie_word_embeddings": False,
    },
    "llama-3.1-70b": {
        **_LLAMA3,
        **_sizes(8192, 80, 64, 8, 28_672),
        "tie_word_embeddings": False,
    },
    "mistral-7b-v0.3": {
        **_sizes(4096, 32, 32, 8, 14_336),
        "model_type": "mistral",
        "vocab_size": 32_768,
        "max_position_embeddings": 32_768,
        "sliding_window": None,
        "tie_word_embeddings": False,
    },
    "mixtral-8x7b": {
        **_sizes(4096, 32, 32, 8, 14_336),
        "model_type": "mixtral",
        "vocab_size": 32_000,
        "max_position_embeddings": 32_768,
        "sliding_window": None,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "tie_word_embeddings": False,
    },
    "gemma-2-9b": {
        **_sizes(3584, 42, 16, 8, 14_336),
        "model_type": "gemma2",
        "head_dim": 256,
        "vocab_size": 256_000,
        "max_position_embeddings": 8192,
        "sliding_window": 4096,
    },
    "phi-4": {
        **_sizes(5120, 40, 40, 10, 17_920),
        "model_type": "phi3",
        "vocab_size": 100_352,
        "max_position_embeddings": 16_384,
        "sliding_window": None,
        "tie_word_embeddings": False,
    },
    "gpt-oss-20b": {
        **_sizes(2880, 24, 64, 8, 2880),
        "model_type": "gpt_oss",
        "head_dim": 64,
        "vocab_size": 201_088,
        "max_position_embeddings": 131_072,
        "sliding_window": 128,
        "num_local_experts": 32,
        "num_experts_per_tok": 4,
        "tie_word_embeddings": False,
    },
}
