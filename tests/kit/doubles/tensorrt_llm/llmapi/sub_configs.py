"""The configuration classes that the arguments of the LLM are made of."""

from enum import StrEnum
from typing import Any, ClassVar, Literal

import pydantic

from ..facts import fact
from .config_class import StrictBaseModel, config_class

OptInt = int | None


class CapacitySchedulerPolicy(StrEnum):
    MAX_UTILIZATION = "MAX_UTILIZATION"
    GUARANTEED_NO_EVICT = "GUARANTEED_NO_EVICT"
    STATIC_BATCH = "STATIC_BATCH"


class ContextChunkingPolicy(StrEnum):
    FIRST_COME_FIRST_SERVED = "FIRST_COME_FIRST_SERVED"
    EQUAL_PROGRESS = "EQUAL_PROGRESS"


class _KvCacheBase(StrictBaseModel):
    @pydantic.field_validator("free_gpu_memory_fraction", check_fields=False)
    @classmethod
    def _in_range(cls, value: float | None) -> float | None:
        if value is not None and not 0 <= value <= 1:
            raise ValueError("kv_cache_config.free_gpu_memory_fraction must be in [0, 1]")
        return value


KvCacheConfig = config_class(
    "KvCacheConfig",
    {
        "enable_block_reuse": (bool, True),
        "max_tokens": (OptInt, None),
        "max_attention_window": (list[int] | None, None),
        "sink_token_length": (OptInt, None),
        "free_gpu_memory_fraction": (float | None, 0.9),
        "host_cache_size": (OptInt, None),
        "onboard_blocks": (bool, True),
        "cross_kv_cache_fraction": (float | None, None),
        "secondary_offload_min_priority": (OptInt, None),
        "event_buffer_max_size": (int, 0),
        "attention_dp_events_gather_period_ms": (int, 5),
        "enable_partial_reuse": (bool, True),
        "copy_on_partial_reuse": (bool, True),
        "use_uvm": (bool, False),
        "max_gpu_total_bytes": (int, 0),
        "dtype": (str, "auto"),
        "mamba_ssm_cache_dtype": (str, "auto"),
        "tokens_per_block": (int, 32),
        "use_kv_cache_manager_v2": (bool | Literal["auto"], False),
        "max_util_for_resume": (float, 0.95),
    },
    _KvCacheBase,
)

DynamicBatchConfig = config_class(
    "DynamicBatchConfig",
    {
        "enable_batch_size_tuning": (bool, True),
        "enable_max_num_tokens_tuning": (bool, False),
        "dynamic_batch_moving_average_window": (int, 128),
    },
)

SchedulerConfig = config_class(
    "SchedulerConfig",
    {
        "capacity_scheduler_policy": (
            CapacitySchedulerPolicy,
            CapacitySchedulerPolicy.GUARANTEED_NO_EVICT,
        ),
        "context_chunking_policy": (ContextChunkingPolicy | None, None),
        "dynamic_batch_config": (DynamicBatchConfig | None, None),
        "waiting_queue_policy": (Literal["fcfs", "priority"], "fcfs"),
    },
)


class _CudaGraphBase(StrictBaseModel):
    @pydantic.model_validator(mode="after")
    def _sizes_agree(self) -> Any:
        sizes, largest = getattr(self, "batch_sizes"), getattr(self, "max_batch_size")  # noqa: B009
        if sizes and largest and largest != max(sizes):
            raise ValueError(
                "CudaGraphConfig.max_batch_size is incompatible with CudaGraphConfig.batch_sizes"
            )
        return self


CudaGraphConfig = config_class(
    "CudaGraphConfig",
    {
        "batch_sizes": (list[int] | None, None),
        "max_batch_size": (int, 0),
        "enable_padding": (bool, False),
        "mode": (Literal["decode", "encode"], "decode"),
    },
    _CudaGraphBase,
)

LoraConfig = config_class(  # the module from which callers import it differs: see `lora_module`
    "LoraConfig",
    {
        "lora_dir": (list[str], list),
        "lora_ckpt_source": (Literal["hf", "nemo"], "hf"),
        "max_lora_rank": (int, 64),
        "lora_target_modules": (list[str], list),
        "trtllm_modules_to_hf_modules": (dict[str, str], dict),
        "max_loras": (OptInt, None),
        "max_cpu_loras": (OptInt, None),
        "swap_gate_up_proj_lora_b_weight": (bool, True),
    },
)

PeftCacheConfig = config_class(
    "PeftCacheConfig",
    {
        "num_host_module_layer": (int, 0),
        "num_device_module_layer": (int, 0),
        "optimal_adapter_size": (int, 8),
        "max_adapter_size": (int, 64),
        "host_cache_size": (int, 1 << 30),
        "device_cache_percent": (float, 0.02),
    },
)

_COMMON: dict[str, tuple[Any, Any]] = {
    "max_draft_len": (OptInt, None),
    "max_total_draft_tokens": (OptInt, None),
    "speculative_model": (str | None, None),
    "max_concurrency": (OptInt, None),
    "draft_len_schedule": (dict[int, int] | None, None),
    "load_format": (str | None, None),
    "acceptance_window": (OptInt, None),
    "acceptance_length_threshold": (float | None, None),
}


class DecodingBaseConfig(StrictBaseModel):
    """What all ways of guessing tokens have in common."""

    needs: ClassVar[tuple[str, ...]] = ()

    @pydantic.model_validator(mode="before")
    @classmethod
    def _alias(cls, values: Any) -> Any:
        if isinstance(values, dict) and "speculative_model_dir" in values:
            values = dict(values)
            values["speculative_model"] = str(values.pop("speculative_model_dir"))
        return values

    @pydantic.model_validator(mode="after")
    def _needs_are_met(self) -> Any:
        for name in self.needs:
            value = getattr(self, name)
            if not value:
                raise ValueError(f"{type(self).__name__}: {name} is needed, got {value!r}")
        return self


def _decoding(kind: str, needs: tuple[str, ...], own: dict[str, tuple[Any, Any]]) -> Any:
    """The class of one way of guessing. Its kind is a class variable, later a field."""
    name = f"{kind.replace('_', '')}DecodingConfig"
    base = type(
        f"_{name}Base",
        (DecodingBaseConfig,),
        {"needs": needs, "__module__": __name__},
    )
    fields: dict[str, tuple[Any, Any]] = {**_COMMON, **own}
    if fact("decoding_type_is_field"):
        return config_class(name, {"decoding_type": (Literal[kind], kind), **fields}, base)
    made = config_class(name, fields, base)
    made.decoding_type = kind
    return made


NGramDecodingConfig = _decoding(
    "NGram",
    ("max_draft_len", "max_matching_ngram_size"),
    {
        "max_matching_ngram_size": (int, 0),
        "is_keep_all": (bool, True),
        "is_use_oldest": (bool, True),
        "is_public_pool": (bool, True),
    },
)

_EAGLE = {
    "eagle_choices": (list[list[int]] | None, None),
    "greedy_sampling": (bool | None, True),
    "posterior_threshold": (float | None, None),
    "use_dynamic_tree": (bool | None, False),
    "dynamic_tree_max_topK": (OptInt, None),
    "num_eagle_layers": (OptInt, None),
    "max_non_leaves_per_layer": (OptInt, None),
    "eagle3_one_model": (bool | None, True),
    "eagle3_layers_to_capture": (set[int] | None, None),
    "eagle3_model_arch": (Literal["llama3", "mistral_large3"], "llama3"),
}
EagleDecodingConfig = _decoding("Eagle", ("max_draft_len", "speculative_model"), _EAGLE)
DraftTargetDecodingConfig = _decoding("Draft_Target", ("max_draft_len", "speculative_model"), {})
MTPDecodingConfig = _decoding(
    "MTP",
    (),
    {
        "num_nextn_predict_layers": (int, 1),
        "use_relaxed_acceptance_for_thinking": (bool, False),
        "relaxed_topk": (int, 1),
        "relaxed_delta": (float, 0.0),
        "use_mtp_vanilla": (bool, False),
        "mtp_eagle_one_model": (bool, True),
        "begin_thinking_phase_token": (int, 128798),
        "end_thinking_phase_token": (int, 128799),
    },
)
AutoDecodingConfig = _decoding("AUTO", (), {})
UserProvidedDecodingConfig = _decoding(
    "User_Provided", (), {"drafter": (Any, None), "resource_manager": (Any, None)}
)

DECODING_CONFIGS = {
    "NGram": NGramDecodingConfig,
    "Eagle": EagleDecodingConfig,
    "Draft_Target": DraftTargetDecodingConfig,
    "MTP": MTPDecodingConfig,
    "AUTO": AutoDecodingConfig,
    "User_Provided": UserProvidedDecodingConfig,
}
"""By the key `decoding_type` of a dict."""

OPTIONAL: dict[str, Any] = {}
"""Classes that only some releases have, by name."""
if fact("decoding.Lookahead"):
    OPTIONAL["LookaheadDecodingConfig"] = _decoding(
        "Lookahead",
        (),
        {
            "max_window_size": (int, 4),
            "max_ngram_size": (int, 3),
            "max_verification_set_size": (int, 4),
        },
    )
    DECODING_CONFIGS["Lookahead"] = OPTIONAL["LookaheadDecodingConfig"]
if fact("decoding.Medusa"):
    OPTIONAL["MedusaDecodingConfig"] = _decoding("Medusa", (), {})
    DECODING_CONFIGS["Medusa"] = OPTIONAL["MedusaDecodingConfig"]
if fact("decoding.Eagle3"):
    OPTIONAL["Eagle3DecodingConfig"] = _decoding(
        "Eagle3", ("max_draft_len", "speculative_model"), _EAGLE
    )
    DECODING_CONFIGS["Eagle3"] = OPTIONAL["Eagle3DecodingConfig"]

if fact("has_tensorrt_engine"):
    OPTIONAL["BuildConfig"] = config_class(
        "BuildConfig",
        {
            "max_input_len": (int, 1024),
            "max_seq_len": (Any, None),
            "opt_batch_size": (int, 8),
            "max_batch_size": (int, 2048),
            "max_beam_width": (int, 1),
            "max_num_tokens": (int, 8192),
        },
    )

NOT_ON_PYTORCH = ("Lookahead", "Medusa")
