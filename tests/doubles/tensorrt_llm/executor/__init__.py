"""The executor's public names."""

from .result import CompletionOutput, GenerationResult
from .utils import RequestError


class CppExecutorError(RuntimeError):
    """An error of the engine that belongs to no request."""


__all__ = ["CompletionOutput", "CppExecutorError", "GenerationResult", "RequestError"]
