"""Settings to the arguments of TensorRT-LLM, release by release."""

import json
from pathlib import Path
from typing import Any

import pytest

from runtime.config.engine import EngineConfig
from runtime.config.tensorrt_llm import (
    CudaGraphsConfig,
    DraftTargetSpeculation,
    Eagle3Speculation,
    LoRAConfig,
    MTPSpeculation,
    NGramSpeculation,
    TensorRTConfig,
    TensorRTKvCacheConfig,
)
from runtime.engines.tensorrt_llm.setup.checkpoint import BuiltLimits, Checkpoint, read_checkpoint
from runtime.engines.tensorrt_llm.setup.options import Sizes, build_arguments, find_sizes
from runtime.engines.tensorrt_llm.setup.package import load_package
from runtime.errors import ModelFileError, SetupError
from tests.kit.models.tensorrt_model import write_tensorrt_model
from tests.kit.tensorrt_double import LATE, STABLE

only = pytest.mark.parametrize


def build(tensorrt: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    config = EngineConfig(
        name="tensorrt_llm", tensorrt_llm=TensorRTConfig(**(tensorrt or {})), **options
    )
    checkpoint = Checkpoint(Path("model"))
    sizes = find_sizes(config, checkpoint, 4096)
    return build_arguments(config, checkpoint, sizes, load_package())


def accepted(arguments: dict[str, Any]) -> Any:
    """The package's own check of the arguments."""
    from tensorrt_llm.llmapi.llm_args import TorchLlmArgs

    return TorchLlmArgs(**arguments)


def test_the_defaults_are_what_the_package_takes(release: str) -> None:
    arguments = build(max_num_seqs=24, num_kv_tokens=9000)

    made = accepted(arguments)
    assert (made.max_batch_size, made.max_seq_len, made.max_num_tokens) == (24, 4096, 8192)
    assert made.enable_chunked_prefill
    assert made.guided_decoding_backend == "xgrammar"
    assert made.kv_cache_config.free_gpu_memory_fraction == 0.9
    assert made.kv_cache_config.max_tokens == 9000
    assert made.kv_cache_config.enable_block_reuse
    assert made.cuda_graph_config.max_batch_size == 24
    assert made.enable_iter_perf_stats
    assert getattr(made.scheduler_config, "waiting_queue_policy", None) == (
        None if release == STABLE else "priority"
    )
    assert "sampler_type" not in arguments


def test_every_setting_arrives(release: str) -> None:
    made = accepted(
        build(
            {
                "dtype": "bfloat16",
                "tensor_parallel_size": 2,
                "pipeline_parallel_size": 3,
                "max_num_tokens": 4000,
                "enable_chunked_prefill": False,
                "scheduler_policy": "MAX_UTILIZATION",
                "guided_decoding_backend": "llguidance",
                "disable_overlap_scheduler": True,
                "trust_remote_code": True,
                "kv_cache": TensorRTKvCacheConfig(
                    free_gpu_memory_fraction=0.5,
                    dtype="fp8",
                    host_cache_gb=2.5,
                    enable_block_reuse=False,
                ),
                "cuda_graphs": CudaGraphsConfig(batch_sizes=(1, 4), padding=False),
                "lora": LoRAConfig(adapters={"a": "/a", "b": "/b"}, max_rank=8, max_loaded=2),
                "extra": {"stream_interval": 4, "kv_cache_config": {"tokens_per_block": 64}},
            }
        )
    )
    assert (made.dtype, made.tensor_parallel_size, made.pipeline_parallel_size) == (
        "bfloat16",
        2,
        3,
    )
    assert (made.max_num_tokens, made.enable_chunked_prefill) == (4000, False)
    assert made.scheduler_config.capacity_scheduler_policy == "MAX_UTILIZATION"
    assert made.guided_decoding_backend == "llguidance"
    assert made.disable_overlap_scheduler
    assert made.trust_remote_code
    cache = made.kv_cache_config
    assert (cache.free_gpu_memory_fraction, cache.dtype) == (0.5, "fp8")
    assert (cache.host_cache_size, cache.enable_block_reuse) == (2_500_000_000, False)
    assert cache.tokens_per_block == 64
    assert made.cuda_graph_config.batch_sizes == [1, 4]
    assert not made.cuda_graph_config.enable_padding
    assert made.enable_lora
    assert made.lora_config.lora_dir == ["/a", "/b"]
    assert (made.lora_config.max_lora_rank, made.lora_config.max_loras) == (8, 2)
    assert made.stream_interval == 4


def test_cuda_graphs_are_off_by_an_explicit_none(release: str) -> None:
    arguments = build({"cuda_graphs": CudaGraphsConfig(enabled=False)})
    assert arguments["cuda_graph_config"] is None
    assert accepted(arguments).cuda_graph_config is None


@pytest.mark.parametrize(
    ("speculative", "names", "values"),
    [
        (
            NGramSpeculation(max_draft_len=5),
            ("NGramDecodingConfig",),
            {"max_draft_len": 5, "max_matching_ngram_size": 2},
        ),
        (
            Eagle3Speculation(model="/head"),
            ("EagleDecodingConfig", "Eagle3DecodingConfig"),
            {"max_draft_len": 3, "speculative_model": "/head", "eagle3_one_model": True},
        ),
        (
            DraftTargetSpeculation(model="/small"),
            ("DraftTargetDecodingConfig",),
            {"max_draft_len": 4, "speculative_model": "/small"},
        ),
        (
            MTPSpeculation(num_nextn_predict_layers=2),
            ("MTPDecodingConfig",),
            {"num_nextn_predict_layers": 2},
        ),
    ],
)
def test_speculation(
    release: str, speculative: Any, names: tuple[str, ...], values: dict[str, Any]
) -> None:
    made = accepted(build({"speculative": speculative})).speculative_config
    assert type(made).__name__ in names
    assert {name: getattr(made, name) for name in values} == values


def test_the_sampler_in_cpp_is_refused_where_it_is_gone(release: str) -> None:
    if release == LATE:
        with pytest.raises(SetupError, match=r"engine\.tensorrt_llm\.sampler: the installed"):
            build({"sampler": "trtllm"})
    else:
        assert accepted(build({"sampler": "trtllm"})).sampler_type == "TRTLLMSampler"


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"foo": 1}, "extra.foo: the installed TensorRT-LLM"),
        ({"max_batch_size": 4}, "extra.max_batch_size has a setting of its own: engine.max_num_s"),
        ({"model": "x"}, "extra.model has a setting of its own: model.name_or_path"),
        ({"skip_tokenizer_init": True}, "extra.skip_tokenizer_init cannot be set"),
        ({"generation_config": "auto"}, "extra.generation_config cannot be set"),
        ({"kv_cache_config": {"foo": 1}}, "extra.kv_cache_config.foo: the installed"),
        ({"kv_cache_config": {"dtype": "x", "use_uvm": "?"}}, "extra.kv_cache_config"),
        ({"kv_cache_config": 3}, "extra.kv_cache_config: expected a table"),
    ],
)
@only("release", [STABLE, LATE], indirect=True)
def test_a_wrong_extra_is_refused_with_its_path(
    release: str, extra: dict[str, Any], expected: str
) -> None:
    with pytest.raises(SetupError) as raised:
        build({"extra": extra})
    assert f"engine.tensorrt_llm.{expected}" in str(raised.value)


@only("release", [STABLE], indirect=True)
def test_what_a_release_lacks_is_dropped_or_refused(release: str) -> None:
    """`max_util_for_resume` came later; nothing of ours needs it."""
    with pytest.raises(SetupError, match=r"extra\.kv_cache_config\.max_util_for_resume"):
        build({"extra": {"kv_cache_config": {"max_util_for_resume": 0.5}}})
    assert "scheduler_config" in build()


@only("release", [STABLE], indirect=True)
def test_reuse_of_prompts_follows_the_one_setting_for_it(release: str) -> None:
    assert not build(prefix_caching="off")["kv_cache_config"].enable_block_reuse
    assert build(prefix_caching="per_tenant")["kv_cache_config"].enable_block_reuse
    with pytest.raises(SetupError, match=r"engine\.prefix_caching"):
        build({"kv_cache": TensorRTKvCacheConfig(enable_block_reuse=True)}, prefix_caching="off")


def test_a_step_must_hold_a_token_of_every_sequence() -> None:
    config = EngineConfig(max_num_seqs=64, tensorrt_llm=TensorRTConfig(max_num_tokens=32))
    with pytest.raises(SetupError, match=r"max_num_tokens is 32, less than engine\.max_num_seqs"):
        find_sizes(config, Checkpoint(Path("model")), 0)


def test_sizes_of_a_built_engine_are_its_own() -> None:
    checkpoint = Checkpoint(Path("model"), BuiltLimits(1024, 8, 2048))
    assert find_sizes(EngineConfig(max_num_seqs=8), checkpoint, 0) == Sizes(1024, 8, 2048)
    with pytest.raises(SetupError, match=r"engine\.max_num_seqs is 16.*built for 8"):
        find_sizes(EngineConfig(max_num_seqs=16), checkpoint, 0)
    with pytest.raises(SetupError, match=r"engine\.max_model_len is 2000"):
        find_sizes(EngineConfig(max_num_seqs=8, max_model_len=2000), checkpoint, 0)


def write_engines(folder: Path) -> Path:
    folder.mkdir()
    (folder / "rank0.engine").write_bytes(b"\0")
    build_config = {"max_seq_len": 512, "max_batch_size": 16, "max_num_tokens": 1024}
    config = {"build_config": build_config, "pretrained_config": {}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_folder_of_engines_is_loaded_by_its_own_class_or_refused(
    release: str, tmp_path: Path
) -> None:
    checkpoint = read_checkpoint(str(write_engines(tmp_path / "engines")))
    assert checkpoint.built == BuiltLimits(512, 16, 1024)
    if release == LATE:
        with pytest.raises(
            SetupError, match=r"folder of TensorRT engines.*late candidates of 1\.3"
        ):
            load_package(legacy=True)
        return
    package = load_package(legacy=True)
    config = EngineConfig()
    sizes = find_sizes(config, checkpoint, 0)
    arguments = build_arguments(config, checkpoint, sizes, package)
    assert package.is_legacy
    assert package.llm_class.__module__.startswith("tensorrt_llm._tensorrt_engine")
    assert "max_seq_len" not in arguments
    assert set(arguments) <= package.arguments


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("{", "not valid JSON"),
        ("{}", "no build_config"),
        ('{"build_config": {"max_seq_len": "x"}}', r"build_config\.max_seq_len"),
    ],
)
def test_a_damaged_folder_of_engines_is_refused(tmp_path: Path, config: str, expected: str) -> None:
    folder = write_engines(tmp_path / "engines")
    (folder / "config.json").write_text(config)
    with pytest.raises(ModelFileError, match=expected):
        read_checkpoint(str(folder))


def test_a_file_is_no_model_for_this_engine(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"model\.name_or_path"):
        read_checkpoint(str(tmp_path / "model.gguf"))
    assert read_checkpoint(str(write_tensorrt_model(tmp_path / "m"))).built is None
