"""Checkpoint folders for the planner: a configuration, and files that nobody reads."""

import json
from pathlib import Path
from typing import Any

TINY: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 500,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}


def write_shape_folder(folder: Path, *, quantization: Any = None, sidecar: Any = None) -> Path:
    folder.mkdir()
    config = dict(TINY)
    if quantization is not None:
        config["quantization_config"] = quantization
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"x" * 600)
    (folder / "model-00002-of-00002.safetensors").write_bytes(b"x" * 400)
    if sidecar is not None:
        (folder / "hf_quant_config.json").write_text(json.dumps({"quantization": sidecar}))
    return folder
