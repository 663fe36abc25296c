"""The executor's public names."""

from .request import LoRARequest
from .result import CompletionOutput, RequestOutput
from .utils import RequestError


class CppExecutorError(RuntimeError):
    """An error of the engine that belongs to no request."""


__all__ = [
    "CompletionOutput",
    "CppExecutorError",
    "LoRARequest",
    "RequestError",
    "RequestOutput",
]
