"""The executor's public names."""

from ..facts import fact
from . import utils
from .request import LoRARequest
from .result import CompletionOutput, RequestOutput
from .utils import RequestError


class CppExecutorError(RuntimeError):
    """An error of the engine that belongs to no request."""


if fact("has_engine_dead_error"):
    EngineDeadError = utils.EngineDeadError

__all__ = [
    "CompletionOutput",
    "CppExecutorError",
    "LoRARequest",
    "RequestError",
    "RequestOutput",
]
