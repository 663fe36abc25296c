"""`TorchLlmArgs`: every argument of the LLM."""

from typing import Any, Literal

import pydantic

from ..facts import ABSENT, default_of, fact
from .config_class import StrictBaseModel, config_class
from .sub_configs import *  # noqa: F403  # the package too has these names in this module
from .sub_configs import (
    DECODING_CONFIGS,
    NOT_ON_PYTORCH,
    OPTIONAL,
    CudaGraphConfig,
    DecodingBaseConfig,
    KvCacheConfig,
    LoraConfig,
    PeftCacheConfig,
    SchedulerConfig,
)

globals().update(OPTIONAL)

OptInt = int | None
OptStr = str | None

# Arguments of the other, engine-building class: refused by name.
TENSORRT_ONLY = (
    "build_config",
    "quant_config",
    "calib_config",
    "enable_build_cache",
    "enable_tqdm",
    "fast_build",
    "workspace",
    "extended_runtime_perf_knob_config",
)

SIZES = {"max_batch_size": 2048, "max_input_len": 1024, "max_beam_width": 1}
"""What None becomes in releases whose declared default is None."""


class BaseLlmArgs(StrictBaseModel):
    """What the package checks about arguments, and nothing more."""

    @pydantic.field_validator("stream_interval", check_fields=False)
    @classmethod
    def _positive_interval(cls, value: int) -> int:
        if value <= 0:
            raise ValueError(f"stream_interval must be positive, got {value}")
        return value

    @pydantic.field_validator("speculative_config", mode="before", check_fields=False)
    @classmethod
    def _decoding_of_dict(cls, value: Any) -> Any:
        if isinstance(value, dict):
            value = _decoding_config(value)
        if value is None or isinstance(value, DecodingBaseConfig):
            _check_backend(value)
            return value
        raise ValueError(f"speculative_config: unknown type {type(value).__name__}")

    @pydantic.model_validator(mode="after")
    def _resolve_sizes(self) -> Any:
        for name, size in SIZES.items():
            if getattr(self, name) is None:
                setattr(self, name, size)
        return self

    @property
    def quant_config(self) -> dict[str, Any]:
        """Comes from the checkpoint; it cannot be given."""
        kv = "FP8" if self.kv_cache_config.dtype == "fp8" else None
        return {"quant_algo": None, "kv_cache_quant_algo": kv}


def _decoding_config(values: dict[str, Any]) -> Any:
    values = dict(values)
    kind = values.pop("decoding_type", None)
    if kind not in DECODING_CONFIGS:
        raise ValueError(f"speculative_config: invalid decoding_type {kind!r}")
    return DECODING_CONFIGS[kind](**values)


def _check_backend(config: Any) -> None:
    kind = getattr(config, "decoding_type", None)
    if kind in NOT_ON_PYTORCH:
        raise ValueError(f"speculative_config: {kind} is not supported by the pytorch backend")


_FIELDS: dict[str, tuple[Any, Any]] = {
    "model": (Any, ...),
    "tokenizer": (Any, None),
    "tokenizer_mode": (Literal["auto", "slow"], "auto"),
    "skip_tokenizer_init": (bool, False),
    "custom_tokenizer": (OptStr, None),
    "trust_remote_code": (bool, False),
    "tensor_parallel_size": (int, 1),
    "dtype": (str, "auto"),
    "model_kwargs": (dict[str, Any] | None, None),
    "revision": (OptStr, None),
    "tokenizer_revision": (OptStr, None),
    "pipeline_parallel_size": (int, 1),
    "context_parallel_size": (int, 1),
    "gpus_per_node": (OptInt, None),
    "moe_cluster_parallel_size": (OptInt, None),
    "moe_tensor_parallel_size": (OptInt, None),
    "moe_expert_parallel_size": (OptInt, None),
    "enable_attention_dp": (bool, False),
    "enable_lm_head_tp_in_adp": (bool, False),
    "pp_partition": (list[int] | None, None),
    "cp_config": (dict[str, Any] | None, None),
    "enable_lora": (bool, False),
    "lora_config": (LoraConfig | None, None),
    "kv_cache_config": (KvCacheConfig, KvCacheConfig),
    "enable_chunked_prefill": (bool, False),
    "guided_decoding_backend": (Literal["xgrammar", "llguidance"] | None, None),
    "batched_logits_processor": (Any, None),
    "iter_stats_max_iterations": (OptInt, None),
    "request_stats_max_iterations": (OptInt, None),
    "peft_cache_config": (PeftCacheConfig | None, None),
    "scheduler_config": (SchedulerConfig, SchedulerConfig),
    "cache_transceiver_config": (Any, None),
    "sparse_attention_config": (Any, None),
    "speculative_config": (Any, None),
    "max_batch_size": (OptInt, None),
    "max_input_len": (OptInt, None),
    "max_seq_len": (OptInt, None),
    "max_beam_width": (OptInt, None),
    "max_num_tokens": (OptInt, 8192),
    "gather_generation_logits": (bool, False),
    "num_postprocess_workers": (int, 0),
    "postprocess_tokenizer_dir": (OptStr, None),
    "reasoning_parser": (OptStr, None),
    "decoding_config": (Any, None),
    "otlp_traces_endpoint": (OptStr, None),
    "backend": (Literal["pytorch", "_autodeploy"] | None, None),
    "return_perf_metrics": (bool, False),
    "orchestrator_type": (Literal["rpc", "ray"] | None, None),
    "env_overrides": (dict[str, str] | None, None),
    "cuda_graph_config": (CudaGraphConfig | None, CudaGraphConfig),
    "disable_overlap_scheduler": (bool, False),
    "attn_backend": (str, "TRTLLM"),
    "sampler_type": (Literal["TRTLLMSampler", "TorchSampler", "auto"], "auto"),
    "sampler_force_async_worker": (bool, False),
    "disable_flashinfer_sampling": (bool, False),
    "enable_iter_perf_stats": (bool, False),
    "enable_iter_req_stats": (bool, False),
    "print_iter_log": (bool, False),
    "max_stats_len": (int, 1000),
    "perf_metrics_max_requests": (int, 0),
    "batch_wait_timeout_ms": (float, 0),
    "batch_wait_timeout_iters": (int, 0),
    "batch_wait_max_tokens_ratio": (float, 0),
    "torch_compile_config": (Any, None),
    "enable_autotuner": (bool, True),
    "enable_layerwise_nvtx_marker": (bool, False),
    "load_format": (Literal["auto", "dummy", "vision_only"], "auto"),
    "enable_min_latency": (bool, False),
    "stream_interval": (int, 1),
    "force_dynamic_quantization": (bool, False),
    "allreduce_strategy": (
        Literal[
            "AUTO",
            "NCCL",
            "UB",
            "MINLATENCY",
            "ONESHOT",
            "TWOSHOT",
            "LOWPRECISION",
            "MNNVL",
            "NCCL_SYMMETRIC",
        ]
        | None,
        "AUTO",
    ),
    "checkpoint_loader": (Any, None),
    "checkpoint_format": (OptStr, None),
    "kv_connector_config": (Any, None),
    "mm_encoder_only": (bool, False),
    "moe_config": (Any, None),
    "nvfp4_gemm_config": (Any, None),
    "attention_dp_config": (Any, None),
    "garbage_collection_gen0_threshold": (int, 20000),
    "ray_worker_extension_cls": (OptStr, None),
    "ray_placement_config": (Any, None),
    "enable_sleep": (bool, False),
    "sleep_config": (Any, None),
    "telemetry_config": (Any, None),
    "generation_config": (Literal["auto", "trtllm"], "trtllm"),
    "encode_only": (bool, False),
    "prometheus_metrics_config": (Any, None),
    "layer_wise_benchmarks_config": (Any, None),
}

TorchLlmArgs = config_class("TorchLlmArgs", _FIELDS, BaseLlmArgs)

if fact("has_tensorrt_engine"):
    _first_torch_only = list(_FIELDS).index("cuda_graph_config")
    _shared = dict(list(_FIELDS.items())[:_first_torch_only])
    _builder: dict[str, tuple[Any, Any]] = dict.fromkeys(TENSORRT_ONLY, (Any, None))
    TrtLlmArgs = config_class("TrtLlmArgs", {**_shared, **_builder})


def arguments(kwargs: dict[str, Any]) -> Any:
    """The checked arguments. Raises ValueError, of which pydantic's errors are a kind."""
    foreign = [name for name in kwargs if name in TENSORRT_ONLY]
    if foreign:
        raise ValueError(
            f"The following args are only supported by the TensorRT backend: {', '.join(foreign)}. "
            f"Please use tensorrt_llm._tensorrt_engine.LLM instead."
        )
    for name in kwargs:
        if name not in TorchLlmArgs.model_fields:
            raise ValueError(f"{TorchLlmArgs.__name__} got invalid argument: {name}")
    return TorchLlmArgs(**kwargs)


def uses_torch_sampler(args: Any) -> bool:
    """Which sampler `sampler_type` chooses; releases without the argument have only one."""
    if default_of("TorchLlmArgs", "sampler_type", ABSENT) is ABSENT:
        return True
    return args.sampler_type == "TorchSampler" or (
        args.sampler_type == "auto" and args.max_beam_width == 1
    )
