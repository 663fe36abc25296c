"""What is left on "auto" follows the model's folder and the GPU that is there."""

import json
from pathlib import Path
from typing import Any

import pytest

from runtime.config.engine import EngineConfig
from runtime.config.tensorrt_llm import TensorRTConfig, TensorRTKvCacheConfig
from runtime.engines.tensorrt_llm.setup.auto import fill_settings
from runtime.engines.tensorrt_llm.setup.checkpoint import BuiltLimits, Checkpoint
from runtime.errors import SetupError
from runtime.hardware.nvml import GpuReader
from runtime.hardware.readings import GpuSnapshot
from tests.kit.fake_nvml import GIB, FakeGpu, FakeNvml

QWEN = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151_936,
    "max_position_embeddings": 40_960,
    "tie_word_embeddings": True,
}
"""Qwen3 0.6B, as its config.json says."""


def folder_of(path: Path, num_bytes: int = 1_200_000_000, **changes: Any) -> Checkpoint:
    (path / "config.json").write_text(json.dumps(QWEN | changes), encoding="utf-8")
    with (path / "model.safetensors").open("wb") as file:
        file.truncate(num_bytes)  # a hole: takes no room
    return Checkpoint(path)


def gpus(*found: FakeGpu) -> GpuSnapshot:
    return GpuReader(FakeNvml(found)).read()


def config_of(tensorrt_llm: TensorRTConfig | None = None, **fields: Any) -> EngineConfig:
    return EngineConfig(
        name="tensorrt_llm", tensorrt_llm=tensorrt_llm or TensorRTConfig(), **fields
    )


EMPTY = FakeGpu(free=int(11.5 * GIB))


def test_what_is_on_auto_is_filled(tmp_path: Path):
    filled = fill_settings(config_of(), folder_of(tmp_path), gpus(EMPTY))

    fraction = filled.tensorrt_llm.kv_cache.free_gpu_memory_fraction
    assert filled.max_model_len == 40_960
    assert isinstance(fraction, float)
    assert 0.5 < fraction < 1
    assert filled.tensorrt_llm.max_num_tokens == 2048
    assert filled.tensorrt_llm.kv_cache.max_attention_window == ()


def test_a_context_that_does_not_fit_is_shortened(tmp_path: Path):
    """114,688 bytes of keys and values a token: what 4 GiB leave is less than the model's own."""
    filled = fill_settings(config_of(), folder_of(tmp_path), gpus(FakeGpu(free=4 * GIB)))

    assert isinstance(filled.max_model_len, int)
    assert 5_000 < filled.max_model_len < 20_000


def test_what_is_set_stays(tmp_path: Path):
    settings = TensorRTConfig(
        max_num_tokens=1000, kv_cache=TensorRTKvCacheConfig(free_gpu_memory_fraction=0.3)
    )
    filled = fill_settings(
        config_of(settings, max_model_len=512, max_num_seqs=3), folder_of(tmp_path), gpus(EMPTY)
    )

    assert filled == config_of(settings, max_model_len=512, max_num_seqs=3)


def test_windows_reach_the_cache(tmp_path: Path):
    gemma = {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "sliding_window": 512,
        "sliding_window_pattern": 6,
    }
    filled = fill_settings(config_of(), folder_of(tmp_path, **gemma), gpus(EMPTY))

    windows = filled.tensorrt_llm.kv_cache.max_attention_window
    assert windows[:6] == (512,) * 5 + (filled.max_model_len,)


@pytest.mark.parametrize("free", [1 * GIB, 2 * GIB])
def test_what_cannot_fit_is_refused_with_the_numbers(tmp_path: Path, free: int):
    with pytest.raises(SetupError, match=r"cannot fit on .*weights take 1\.2 GB"):
        fill_settings(config_of(), folder_of(tmp_path), gpus(FakeGpu(free=free)))


def test_the_first_visible_gpu_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    both = gpus(FakeGpu(free=1 * GIB), EMPTY)
    with pytest.raises(SetupError):
        fill_settings(config_of(), folder_of(tmp_path), both)

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    assert fill_settings(config_of(), folder_of(tmp_path), both).max_model_len == 40_960


@pytest.mark.parametrize(
    ("changes", "settings", "found"),
    [
        ({}, TensorRTConfig(tensor_parallel_size=2), (EMPTY, EMPTY)),
        ({}, TensorRTConfig(), ()),
        (
            {"architectures": ["MambaForCausalLM"], "model_type": "mamba"},
            TensorRTConfig(),
            (EMPTY,),
        ),
        ({"quantization_config": {"quant_method": "awq"}}, TensorRTConfig(), (EMPTY,)),
    ],
    ids=["two GPUs", "no GPU", "unknown architecture", "unknown weights"],
)
def test_without_a_plan_nothing_changes(
    tmp_path: Path, changes: dict[str, Any], settings: TensorRTConfig, found: tuple[FakeGpu, ...]
):
    config = config_of(settings)

    assert fill_settings(config, folder_of(tmp_path, **changes), gpus(*found)) == config


def test_engines_that_are_built_have_their_own_sizes(tmp_path: Path):
    built = Checkpoint(tmp_path, BuiltLimits(1024, 8, 2048))

    assert fill_settings(config_of(), built, gpus(EMPTY)) == config_of()


def awq_folder(path: Path) -> Checkpoint:
    quantization = {"quantization": {"quant_algo": "W4A16_AWQ", "group_size": 128}}
    (path / "hf_quant_config.json").write_text(json.dumps(quantization), encoding="utf-8")
    return folder_of(path, 500_000_000)


def test_awq_on_rtx_blackwell_starts_with_late_kernels_alone(tmp_path: Path):
    card = FakeGpu("NVIDIA GeForce RTX 5070", free=int(11.5 * GIB), compute_capability=(12, 0))
    checkpoint = awq_folder(tmp_path)
    with pytest.raises(SetupError, match=r"int4_awq cannot run on rtx-5070.*candidate of 1\.3"):
        fill_settings(config_of(), checkpoint, gpus(card), "stable")
    assert fill_settings(config_of(), checkpoint, gpus(card), "late").max_model_len == 40_960
