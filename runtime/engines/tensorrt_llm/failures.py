"""Classifies the package's exceptions: a mistake of the client, the failure of one request, or the
end of the engine."""

import re

from runtime.errors import (
    ContextLengthExceeded,
    EngineError,
    EngineFatal,
    InvalidRequest,
    LockgateError,
)
from runtime.messages.request import Request

_FATAL = re.compile(
    r"\bCUDA (?:error|driver|runtime)|\bcuda\w*Error|illegal memory access|device-side assert"
    r"|unspecified launch failure|out of memory|\bOOM\b|\bNCCL\b|\bcu(?:BLAS|DNN)\b|\bMPI_"
    r"|ECC error|GPU is lost|shutting down|shut down|worker (?:process )?(?:died|returned error)"
    r"|event loop terminated|engine (?:has died|is dead)",
    re.IGNORECASE,
)
"""Texts of errors after which the process cannot be trusted, although the package raises some of
them as the error of one request (docs/tensorrt-llm-contract.md, 6.5)."""

_TOO_LONG = re.compile(
    r"max_num_tokens|max_seq_len|max_input_len|context length|prompt length|too long", re.IGNORECASE
)


_NO_ADAPTER = re.compile(r"load LoRA adapter", re.IGNORECASE)

_UNEQUAL_SCORES = re.compile(r"\blogprobs?\b", re.IGNORECASE)
"""The text of an assertion in the package's reading of one answer: its scores are not as many as
its tokens."""


class Failures:
    """Converts exceptions into our errors. `request_error` is the package's class for errors of one
    request."""

    def __init__(self, request_error: type[Exception]) -> None:
        self._request_error = request_error

    def at_submit(self, error: Exception, request: Request) -> LockgateError:
        """The meaning of an exception from `generate_async` (docs/tensorrt-llm-contract.md, 2.3 and
        10.11). A wrong value, a wrong request, or one that the package has no way to serve is the
        client's mistake. Everything else is an error of the engine, which may have happened before
        this request and be reported only now (6.5)."""
        if self._is_fatal(error):
            return _fatal(error)
        if isinstance(error, (self._request_error, ValueError, TypeError, NotImplementedError)):
            return _clients_mistake(error, request)
        return _fatal(error)

    def while_running(
        self, error: Exception, sequence_has_started: bool, request: Request
    ) -> LockgateError:
        """The meaning of an exception from the iteration over a result."""
        if isinstance(error, EngineError):
            return error
        if self._is_fatal(error) or not self._is_of_one_request(error):
            return _fatal(error)
        is_guided = request.sampling.structured_output is not None
        if _is_clients(error) or (is_guided and not sequence_has_started):
            return _clients_mistake(error, request)
        return EngineError(f"TensorRT-LLM failed on this request: {error}")

    def _is_of_one_request(self, error: Exception) -> bool:
        if isinstance(error, AssertionError):
            return _UNEQUAL_SCORES.search(str(error)) is not None
        return isinstance(error, self._request_error)

    def _is_fatal(self, error: Exception) -> bool:
        return _FATAL.search(str(error)) is not None


def _fatal(error: Exception) -> EngineFatal:
    return EngineFatal(f"TensorRT-LLM is broken: {type(error).__name__}: {error}")


def _is_clients(error: Exception) -> bool:
    text = str(error)
    return _TOO_LONG.search(text) is not None or _NO_ADAPTER.search(text) is not None


def _clients_mistake(error: Exception, request: Request) -> InvalidRequest:
    if _NO_ADAPTER.search(str(error)):
        return InvalidRequest(
            f"TensorRT-LLM does not load this adapter: {error}",
            param="model",
            code="model_not_found",
        )
    if _TOO_LONG.search(str(error)):
        return ContextLengthExceeded(f"TensorRT-LLM refuses the prompt: {error}", param="prompt")
    wanted = request.sampling.structured_output
    param = None if wanted is None else wanted.source
    return InvalidRequest(f"TensorRT-LLM refuses this request: {error}", param=param)
