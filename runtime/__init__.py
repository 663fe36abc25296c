"""The engine side of Lockgate: tokens, batches, processes. It never sees HTTP.

What the gateway uses is exported here; everything else is private to the package.
"""

from runtime.client import EngineClient, EngineState
from runtime.config import EngineConfig, LlamaCppConfig, PrefixCaching, ScriptedConfig
from runtime.detokenizer import spell
from runtime.embedding_stream import EmbeddingStream
from runtime.errors import (
    ContextLengthExceeded,
    DeadlineExceeded,
    EngineCrashed,
    EngineError,
    EngineOverloaded,
    EngineUnavailable,
    GpuMemoryPressure,
    InvalidRequest,
    LockgateError,
    MissingExtra,
    ModelFileError,
    ModelNotFound,
    PullError,
    SetupError,
)
from runtime.gpu import (
    THROTTLE_REASONS,
    GpuReader,
    GpuReading,
    GpuSnapshot,
    choose_gpu,
    spec_of,
)
from runtime.gpu_monitor import GpuMonitor
from runtime.matryoshka import is_matryoshka
from runtime.messages import EngineInfo, EngineLimits, EngineStats, FromEngine, Ready, StepOutput
from runtime.models import CATALOGUE, CatalogueEntry, Model, ModelStore
from runtime.planning.gpu_table import GPUS, GpuSpec, find_gpu
from runtime.planning.memory_account import Budget, KVCacheDtype, Wishes
from runtime.planning.model_shape import ModelShape
from runtime.planning.plan_source import PlannedModel, StoredWeights, find_planned_model
from runtime.planning.planner import EnginePlan, Plan, PrecisionPlan, Speculation, make_plan
from runtime.planning.planner import fill as fill_engine_plan
from runtime.planning.precisions import PRECISIONS, PrecisionName
from runtime.planning.roofline import Roofline
from runtime.request import (
    PRIORITY_STEP,
    BareCalls,
    EmbeddingRequest,
    FinishReason,
    Request,
    RequestOutput,
    SamplingParams,
    StructuralTag,
    StructuredOutput,
    TagStructure,
    Thinking,
    TokenLogprobs,
)
from runtime.service_rate import DEFAULT_RETRY_AFTER, MAX_RETRY_AFTER
from runtime.stream import TokenStream
from runtime.supervisor import Supervisor
from runtime.tensorrt_config import TensorRTConfig
from runtime.thinking import ThinkingTracker
from runtime.token_roles import FimTokens
from runtime.tokenizer import Tokenizer, load_tokenizer
from runtime.version import __version__

__all__ = [
    "CATALOGUE",
    "DEFAULT_RETRY_AFTER",
    "GPUS",
    "MAX_RETRY_AFTER",
    "PRECISIONS",
    "PRIORITY_STEP",
    "THROTTLE_REASONS",
    "BareCalls",
    "Budget",
    "CatalogueEntry",
    "ContextLengthExceeded",
    "DeadlineExceeded",
    "EmbeddingRequest",
    "EmbeddingStream",
    "EngineClient",
    "EngineConfig",
    "EngineCrashed",
    "EngineError",
    "EngineInfo",
    "EngineLimits",
    "EngineOverloaded",
    "EnginePlan",
    "EngineState",
    "EngineStats",
    "EngineUnavailable",
    "FimTokens",
    "FinishReason",
    "FromEngine",
    "GpuMemoryPressure",
    "GpuMonitor",
    "GpuReader",
    "GpuReading",
    "GpuSnapshot",
    "GpuSpec",
    "InvalidRequest",
    "KVCacheDtype",
    "LlamaCppConfig",
    "LockgateError",
    "MissingExtra",
    "Model",
    "ModelFileError",
    "ModelNotFound",
    "ModelShape",
    "ModelStore",
    "Plan",
    "PlannedModel",
    "PrecisionName",
    "PrecisionPlan",
    "PrefixCaching",
    "PullError",
    "Ready",
    "Request",
    "RequestOutput",
    "Roofline",
    "SamplingParams",
    "ScriptedConfig",
    "SetupError",
    "Speculation",
    "StepOutput",
    "StoredWeights",
    "StructuralTag",
    "StructuredOutput",
    "Supervisor",
    "TagStructure",
    "TensorRTConfig",
    "Thinking",
    "ThinkingTracker",
    "TokenLogprobs",
    "TokenStream",
    "Tokenizer",
    "Wishes",
    "__version__",
    "choose_gpu",
    "fill_engine_plan",
    "find_gpu",
    "find_planned_model",
    "is_matryoshka",
    "load_tokenizer",
    "make_plan",
    "spec_of",
    "spell",
]
