"""The engine side of Lockgate: tokens, batches, processes. It never sees HTTP.

What the gateway uses is exported here; everything else is private to the package.
"""

from runtime.client import EngineClient, EngineState
from runtime.config import EngineConfig, LlamaCppConfig, PrefixCaching, ScriptedConfig
from runtime.errors import (
    ContextLengthExceeded,
    DeadlineExceeded,
    EngineError,
    EngineOverloaded,
    EngineUnavailable,
    InvalidRequest,
    LockgateError,
    MissingExtra,
    ModelFileError,
    ModelNotFound,
    PullError,
    SetupError,
)
from runtime.messages import EngineInfo, EngineLimits, EngineStats, FromEngine, StepOutput
from runtime.models import CATALOGUE, CatalogueEntry, Model, ModelStore
from runtime.request import (
    PRIORITY_STEP,
    FinishReason,
    Request,
    RequestOutput,
    SamplingParams,
    StructuredOutput,
    TokenLogprobs,
)
from runtime.service_rate import MAX_RETRY_AFTER
from runtime.stream import TokenStream
from runtime.supervisor import Supervisor
from runtime.tensorrt_config import TensorRTConfig
from runtime.token_roles import FimTokens
from runtime.tokenizer import Tokenizer, load_tokenizer
from runtime.version import __version__

__all__ = [
    "CATALOGUE",
    "MAX_RETRY_AFTER",
    "PRIORITY_STEP",
    "CatalogueEntry",
    "ContextLengthExceeded",
    "DeadlineExceeded",
    "EngineClient",
    "EngineConfig",
    "EngineError",
    "EngineInfo",
    "EngineLimits",
    "EngineOverloaded",
    "EngineState",
    "EngineStats",
    "EngineUnavailable",
    "FimTokens",
    "FinishReason",
    "FromEngine",
    "InvalidRequest",
    "LlamaCppConfig",
    "LockgateError",
    "MissingExtra",
    "Model",
    "ModelFileError",
    "ModelNotFound",
    "ModelStore",
    "PrefixCaching",
    "PullError",
    "Request",
    "RequestOutput",
    "SamplingParams",
    "ScriptedConfig",
    "SetupError",
    "StepOutput",
    "StructuredOutput",
    "Supervisor",
    "TensorRTConfig",
    "TokenLogprobs",
    "TokenStream",
    "Tokenizer",
    "__version__",
    "load_tokenizer",
]
