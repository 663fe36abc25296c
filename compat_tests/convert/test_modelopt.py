"""NVIDIA's ModelOpt itself, on a CPU, measures a tiny model's scales and writes its folder."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from convert.pipeline.modelopt import calibrate_on
from convert.pipeline.plan import Options
from convert.target.nvfp4 import Nvfp4Layout
from convert.tensors.weights import Weight
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


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("seed", range(4))
def test_4_bit_floats_are_the_same_bytes(seed: int) -> None:
    torch = pytest.importorskip("torch")
    from modelopt.torch.quantization.qtensor import NVFP4QTensor

    rows = np.random.default_rng(seed).normal(0, 0.02 * (seed + 1), (64, 256)).astype(np.float32)
    weight = Weight(name="a.o_proj.weight", source="", shape=rows.shape, linear=True)
    layout = Nvfp4Layout(weight, float(np.abs(rows).max()))
    ours = {**layout.encode(rows), **layout.constants()}
    theirs, scales, whole = NVFP4QTensor.quantize(torch.from_numpy(rows), 16)

    assert np.array_equal(ours["a.o_proj.weight"], theirs._quantized_data.numpy())
    assert np.array_equal(ours["a.o_proj.weight_scale"], scales.view(torch.uint8).numpy())
    assert float(ours["a.o_proj.weight_scale_2"]) == pytest.approx(whole.item(), rel=1e-7)
