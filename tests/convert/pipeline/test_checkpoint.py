"""Checkpoints of GGUF files, against the files, llama.cpp and the libraries that read them."""

from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors import safe_open

from benchmarks.agreement import text_logits
from convert.architectures import KNOWN
from convert.checks.verify import verify, verify_against
from convert.target.recipe import Recipe, Rule, make_recipe
from convert.tensors.safetensors_file import read_places
from runtime.errors import ModelFileError
from tests.kit.engines import needs_llama_library
from tests.kit.models.checkpoints import TOKEN_IDS, load_plain, read_json, scalar
from tests.kit.models.conversion import converted
from tests.kit.models.reference_model import last_logits
from tests.kit.models.tiny_checkpoints import (
    ARCHITECTURES,
    HEAD_DIM,
    WITH_EXPERTS,
    tiny_gguf,
)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_weights_are_the_original_ones(architecture: str, tmp_path: Path) -> None:
    path, weights = tiny_gguf(tmp_path, architecture)
    written = load_plain(converted(path, tmp_path / "target"))

    assert written.keys() == weights.keys()
    for name, values in weights.items():
        # 1 + w is rounded in the file where w is small
        tolerance = 2**-7 if "norm" in name and architecture.startswith("gemma") else 0
        np.testing.assert_allclose(written[name], values, rtol=tolerance, err_msg=name)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_as_llama_cpp_computes_them(architecture: str, tmp_path: Path) -> None:
    needs_llama_library()
    path, _ = tiny_gguf(tmp_path, architecture)
    target = converted(path, tmp_path / "target")
    expected = text_logits(path, TOKEN_IDS)[-1]
    ours = last_logits(read_json(target / "config.json"), load_plain(target), TOKEN_IDS)

    assert expected.std() > 0.1
    assert np.abs(ours - expected).max() < 0.02 * expected.std()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_transformers_reads_the_configuration(architecture: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    path, weights = tiny_gguf(tmp_path, architecture)
    target = converted(path, tmp_path / "target")
    config = transformers.AutoConfig.from_pretrained(target)
    generation = transformers.GenerationConfig.from_pretrained(target)

    assert config.architectures[0].lower().startswith(architecture)
    assert config.hidden_size == weights["model.norm.weight"].size
    assert getattr(config, "head_dim", HEAD_DIM) == HEAD_DIM
    assert config.tie_word_embeddings == ("lm_head.weight" not in weights)
    assert config.vocab_size == len(weights["model.embed_tokens.weight"])
    assert len(generation.eos_token_id) == 2


def test_every_known_architecture_is_tested() -> None:
    assert KNOWN.keys() == set(ARCHITECTURES) - {"mixtral"}, "Mixtral's files say llama"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("precision", ["fp16", "fp8", "int8", "int4-rtn", "nvfp4-w4a16"])
def test_every_precision(architecture: str, precision: str, tmp_path: Path) -> None:
    if architecture == "phi3" and precision in ("int4-rtn", "nvfp4-w4a16"):
        pytest.skip("refused, see below")
    if architecture in WITH_EXPERTS and precision in ("fp8", "int4-rtn", "nvfp4-w4a16"):
        pytest.skip("refused, see below")
    path, _ = tiny_gguf(tmp_path, architecture)
    target = converted(path, tmp_path / "target", precision, release="1.3")
    tensors = list(verify_against(target, path))

    assert tensors
    assert all(tensor.passed for tensor in tensors)
    assert all(tensor.difference.cosine > 0.98 for tensor in tensors)
    recorded = {tensor.name: tensor.difference.error for tensor in verify(target)}
    for tensor in tensors:
        assert recorded[tensor.name] == pytest.approx(tensor.difference.error, rel=1e-5)


@pytest.mark.parametrize("architecture", WITH_EXPERTS)
def test_experts_kept_beside_quantized_attention(architecture: str, tmp_path: Path) -> None:
    path, _ = tiny_gguf(tmp_path, architecture)
    recipe = Recipe(precision="fp8", rules=(Rule("*.experts.*", "keep"),))
    target = converted(path, tmp_path / "target", recipe)
    quantization = read_json(target / "hf_quant_config.json")["quantization"]
    module = "mlp" if architecture == "qwen3moe" else "block_sparse_moe"
    places = read_places(target / "model.safetensors")

    assert quantization["quant_algo"] == "FP8"
    assert quantization["exclude_modules"] == [
        "lm_head",
        "*.gate",
        f"model.layers.0.{module}.experts",
        f"model.layers.0.{module}.experts.*",
        f"model.layers.1.{module}.experts",
        f"model.layers.1.{module}.experts.*",
    ]
    assert places[f"model.layers.0.{module}.gate.weight"].output.dtype == "BF16"
    assert places["model.layers.0.self_attn.q_proj.weight"].output.dtype == "F8_E4M3"
    assert all(tensor.passed for tensor in verify_against(target, path))


def test_quantized_experts_are_cut_at_their_rows(tmp_path: Path) -> None:
    path, weights = tiny_gguf(tmp_path, "mixtral", kind=gguf.GGMLQuantizationType.Q8_0)
    written = load_plain(converted(path, tmp_path / "target"))

    assert written.keys() == weights.keys()
    for name, values in weights.items():
        error = np.linalg.norm(written[name] - values) / np.linalg.norm(values)
        assert error < (0.01 if "_proj" in name or ".experts." in name else 0.02), name


@pytest.mark.parametrize("key", ["expert_count", "expert_used_count"])
def test_counts_of_experts_that_are_not_true(key: str, tmp_path: Path) -> None:
    path, _ = tiny_gguf(tmp_path, "qwen3moe")
    data = bytearray(path.read_bytes())
    place = data.index(f"qwen3moe.{key}".encode()) + len(f"qwen3moe.{key}") + 4
    data[place] += 3
    path.write_bytes(data)

    with pytest.raises(ModelFileError, match=r"`expert_used_count` is 5|shape is \(4, "):
        converted(path, tmp_path / "target")


def test_safetensors_reads_the_files(tmp_path: Path) -> None:
    path, weights = tiny_gguf(tmp_path, "llama")
    target = converted(path, tmp_path / "target", "fp16")

    with safe_open(target / "model.safetensors", framework="numpy") as file:
        assert set(file.keys()) == weights.keys()
        for name in file.keys():  # noqa: SIM118 - the file is no dictionary
            np.testing.assert_array_equal(file.get_tensor(name), weights[name].astype(np.float16))


def test_fused_layers_share_one_fp8_scale(tmp_path: Path) -> None:
    path, weights = tiny_gguf(tmp_path, "qwen3")
    target = converted(path, tmp_path / "target", "fp8")
    prefix = "model.layers.1.self_attn"
    scales = {part: scalar(target, f"{prefix}.{part}_proj.weight_scale") for part in "qkvo"}
    largest = max(np.abs(weights[f"{prefix}.{part}_proj.weight"]).max() for part in "qkv")

    assert scales["q"] == scales["k"] == scales["v"] == pytest.approx(largest / 448)
    assert scales["o"] != scales["q"]


def test_what_the_loader_is_told(tmp_path: Path) -> None:
    path, _ = tiny_gguf(tmp_path, "llama")
    recipe = make_recipe("int4-rtn", kv_cache="fp8")
    quantization = read_json(converted(path, tmp_path / "a", recipe) / "hf_quant_config.json")

    assert quantization["quantization"] == {
        "quant_algo": "W4A16_AWQ",
        "kv_cache_quant_algo": "FP8",
        "group_size": 128,
        "has_zero_point": False,
        "pre_quant_scale": True,
        "exclude_modules": ["lm_head"],
    }
    assert not (converted(path, tmp_path / "b", "bf16") / "hf_quant_config.json").exists()


def test_a_mixed_recipe(tmp_path: Path) -> None:
    path, _ = tiny_gguf(tmp_path, "llama")
    rules = (Rule("*.0.mlp.*", "keep"), Rule("*.self_attn.*", "fp8"))
    target = converted(path, tmp_path / "target", Recipe(precision="int4-rtn", rules=rules))
    quantization = read_json(target / "hf_quant_config.json")["quantization"]
    layers = read_json(target / "quant_cfg.json")["quantized_layers"]

    assert quantization["quant_algo"] == "MIXED_PRECISION"
    assert "model.layers.0.mlp.gate_up_proj" in quantization["exclude_modules"]
    assert "model.layers.0.mlp.gate_proj" in quantization["exclude_modules"]
    assert layers["model.layers.0.self_attn.q_proj"] == {"quant_algo": "FP8"}
    assert layers["model.layers.1.mlp.down_proj"]["quant_algo"] == "W4A16_AWQ"
    assert "model.layers.0.mlp.down_proj" not in layers
    assert all(tensor.passed for tensor in verify_against(target, path))
