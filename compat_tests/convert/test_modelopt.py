"""NVIDIA's ModelOpt itself, on a CPU, measures a tiny model's scales and writes its folder."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from convert.pipeline.modelopt import calibrate_on
from convert.pipeline.plan import Options
from tests.kit.models.tiny_checkpoints import byte_level_vocabulary, random_weights, write_gguf

pytest.importorskip("modelopt", reason="nvidia-modelopt is not installed: scripts/compat-torch")

TEXT = "The quick brown fox jumps over the lazy dog. " * 60
ALGORITHMS = {"fp8": "FP8", "int4-awq": "W4A16_AWQ"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("precision", ALGORITHMS)
@pytest.mark.parametrize("kv_cache", ["", "fp8"])
def test_a_folder_is_calibrated(precision: str, kv_cache: str, tmp_path: Path) -> None:
    architecture, target = "llama", tmp_path / "target"
    count = len(byte_level_vocabulary(tmp_path)["tokenizer.ggml.tokens"])
    source = write_gguf(tmp_path / "m.gguf", architecture, random_weights(architecture, count))

    calibrate_on(
        "cpu", source, target, precision, TEXT, Options(), lambda _: None, kv_cache=kv_cache
    )

    written = json.loads((target / "hf_quant_config.json").read_text())["quantization"]
    assert written["quant_algo"] == ALGORITHMS[precision]
    assert written["kv_cache_quant_algo"] == (kv_cache.upper() or None)
    with safe_open(target / "model.safetensors", "np") as tensors:
        names = list(tensors.keys())
    assert any(name.endswith("q_proj.weight_scale") for name in names)
    assert any(name.endswith("k_scale") for name in names) == bool(kv_cache)
    assert (target / "tokenizer.json").is_file()
