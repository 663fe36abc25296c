"""Settings of the TensorRT-LLM engine: `engine.tensorrt_llm.*`. Defaults are this project's own.

What the installed release does not have is refused when the engine starts, with the setting's path.
"""

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct

SINGLE_PROCESS = "TLLM_WORKER_USE_SINGLE_PROCESS"
"""A variable of the package's own: with "1" it works in the engine's process, without MPI."""

Auto = Literal["auto"]
Count = Annotated[int, Meta(ge=1)]

SchedulerPolicy = Literal["GUARANTEED_NO_EVICT", "MAX_UTILIZATION", "STATIC_BATCH"]
SamplerName = Literal["auto", "trtllm"]
GuidedDecodingBackend = Literal["xgrammar", "llguidance", "off"]


class TensorRTKvCacheConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The KV cache on the GPU. `free_gpu_memory_fraction` is of the memory that the weights leave,
    "auto" what the plan says, or 0.9 where there is none. `max_attention_window` is in tokens, one
    for each layer or a pattern that repeats; empty: what the plan says, or the whole context;
    `host_cache_gb` gigabytes (10^9 bytes) of plain memory keep blocks that leave the GPU. "auto"
    as `enable_block_reuse` follows `engine.prefix_caching`."""

    free_gpu_memory_fraction: Annotated[float, Meta(gt=0, le=1)] | Auto = "auto"
    max_attention_window: tuple[Count, ...] = ()
    dtype: str = "auto"
    host_cache_gb: Annotated[float, Meta(ge=0)] = 0.0
    enable_block_reuse: bool | Auto = "auto"


class CudaGraphsConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """CUDA graphs: one is captured for each batch size, which takes time at the start and memory.
    Without `batch_sizes` the package chooses them up to `engine.max_num_seqs`; `padding` lets a
    batch run in the graph of the next larger size."""

    enabled: bool = True
    batch_sizes: tuple[Count, ...] = ()
    padding: bool = True


class NoSpeculation(
    Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="method", tag="none"
):
    """One token a step."""


class NGramSpeculation(
    Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="method", tag="ngram"
):
    """Tokens that followed the same words before are tried at once."""

    max_draft_len: Count = 4
    max_matching_ngram_size: Count = 2


class Eagle3Speculation(
    Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="method", tag="eagle3"
):
    """An EAGLE-3 head in the folder `model` drafts."""

    model: Annotated[str, Meta(min_length=1)]
    max_draft_len: Count = 3
    one_model: bool = True


class DraftTargetSpeculation(
    Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    tag_field="method",
    tag="draft_target",
):
    """A smaller model in the folder `model` drafts."""

    model: Annotated[str, Meta(min_length=1)]
    max_draft_len: Count = 4


class MTPSpeculation(
    Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="method", tag="mtp"
):
    """The model's own layers for tokens further ahead draft."""

    num_nextn_predict_layers: Count = 1


Speculation: TypeAlias = (
    NoSpeculation | NGramSpeculation | Eagle3Speculation | DraftTargetSpeculation | MTPSpeculation
)


class LoRAConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Adapters by name: `adapters` maps names to folders. `max_rank` is the largest rank among
    them, `max_loaded` how many stay on the GPU."""

    adapters: dict[str, str] = {}
    max_rank: Count = 64
    max_loaded: Count = 4


class TensorRTConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The TensorRT-LLM engine.

    `max_num_tokens` "auto" is as many tokens a step as the package's default, 8192.
    `guided_decoding_backend` enforces structured outputs; "off" refuses them. `sampler` "trtllm"
    takes the sampler in C++ of releases that still have it. `no_progress_timeout` is in seconds: a
    running request that gets no token for so long means that the engine hangs.
    `prompt_logprobs_gb` are the gigabytes (10^9 bytes) of GPU memory that the log-probabilities of
    one prompt may take; "auto" is half of what a plan leaves free. `extra` is handed to the
    package's own arguments as it is.
    """

    dtype: str = "auto"
    tensor_parallel_size: Count = 1
    pipeline_parallel_size: Count = 1
    max_num_tokens: Count | Auto = "auto"
    enable_chunked_prefill: bool = True
    scheduler_policy: SchedulerPolicy = "GUARANTEED_NO_EVICT"
    sampler: SamplerName = "auto"
    guided_decoding_backend: GuidedDecodingBackend = "xgrammar"
    disable_overlap_scheduler: bool = False
    trust_remote_code: bool = False
    no_progress_timeout: Annotated[float, Meta(gt=0)] = 120.0
    prompt_logprobs_gb: Annotated[float, Meta(ge=0)] | Auto = "auto"
    kv_cache: TensorRTKvCacheConfig = TensorRTKvCacheConfig()
    cuda_graphs: CudaGraphsConfig = CudaGraphsConfig()
    speculative: Speculation = NoSpeculation()
    lora: LoRAConfig = LoRAConfig()
    extra: dict[str, Any] = {}
