"""The names that callers import."""

from ..executor.result import CompletionOutput, RequestOutput
from ..executor.utils import RequestError
from ..sampling_params import (
    GuidedDecodingParams,
    LogitsProcessor,
    SamplingParams,
)
from .llm import LLM
from .llm_args import TorchLlmArgs
from .sub_configs import (
    OPTIONAL,
    AutoDecodingConfig,
    CapacitySchedulerPolicy,
    ContextChunkingPolicy,
    CudaGraphConfig,
    DraftTargetDecodingConfig,
    DynamicBatchConfig,
    EagleDecodingConfig,
    KvCacheConfig,
    MTPDecodingConfig,
    NGramDecodingConfig,
    PeftCacheConfig,
    SchedulerConfig,
    UserProvidedDecodingConfig,
)

globals().update(OPTIONAL)

__all__ = [
    "LLM",
    "AutoDecodingConfig",
    "CapacitySchedulerPolicy",
    "CompletionOutput",
    "ContextChunkingPolicy",
    "CudaGraphConfig",
    "DraftTargetDecodingConfig",
    "DynamicBatchConfig",
    "EagleDecodingConfig",
    "GuidedDecodingParams",
    "KvCacheConfig",
    "LogitsProcessor",
    "MTPDecodingConfig",
    "NGramDecodingConfig",
    "PeftCacheConfig",
    "RequestError",
    "RequestOutput",
    "SamplingParams",
    "SchedulerConfig",
    "TorchLlmArgs",
    "UserProvidedDecodingConfig",
]
