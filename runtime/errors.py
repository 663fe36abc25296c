"""Every error that the runtime raises.

::

    LockgateError
    ├── InvalidRequest             the request is wrong; names the parameter
    │   └── ContextLengthExceeded  prompt (and max_tokens) do not fit the model's context
    ├── EngineOverloaded           no room in the waiting queue; come back in `retry_after` seconds
    ├── EngineUnavailable          the engine is starting, restarting or has failed
    ├── GpuMemoryPressure          the GPU's memory is nearly used up; `retry_after` as above
    ├── DeadlineExceeded           the request was still waiting when its time was over
    ├── EngineError                the engine broke while it worked on this request
    │   └── EngineCrashed          this request has killed the engine, more than once
    ├── EngineFatal                the engine's process must end: nothing in it can be trusted
    └── SetupError                 the machine, a file or a setting is wrong; a person must act
        ├── MissingExtra           an optional package is not installed; names the extra
        ├── LibraryUnusable        a llama.cpp library is missing, or is not as declared
        ├── ModelNotFound          no such name in the catalogue and no such file
        ├── ModelFileError         a model file is unreadable, corrupt or not what it should be
        └── PullError              no source could deliver the model
"""

from collections.abc import Mapping
from typing import Self


class LockgateError(Exception):
    """Base of all errors of this project. `str(error)` is a sentence for the user."""


class InvalidRequest(LockgateError):
    """The request cannot be served as it is. `param` names the field, `code` is OpenAI's slug."""

    def __init__(self, message: str, *, param: str | None, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.param = param
        self.code = code

    def rename(self, names: Mapping[str, str]) -> None:
        """Calls the field what the client calls it, if `names` has another name for it."""
        if self.param is None or (name := names.get(self.param)) is None:
            return
        self.args = (str(self).replace(f"`{self.param}`", f"`{name}`"),)
        self.param = name


class ContextLengthExceeded(InvalidRequest):
    """The tokens asked for do not fit into the model's context."""

    def __init__(self, message: str, *, param: str | None) -> None:
        super().__init__(message, param=param, code="context_length_exceeded")

    @classmethod
    def by_prompt(
        cls, num_tokens: int, max_model_len: int, *, param: str | None, is_least: bool = False
    ) -> Self:
        """The error of a prompt that leaves no room for an answer. Clients such as LiteLLM find out
        by its words that they have to shorten the conversation or to take another model. With
        `is_least` the prompt may have more than `num_tokens`."""
        has = f"at least {num_tokens}" if is_least else str(num_tokens)
        return cls(
            f"This model's maximum context length is {max_model_len} tokens, and the prompt is too"
            f" long: it has {has}. Please reduce the length of the messages or of the"
            " prompt.",
            param=param,
        )

    @classmethod
    def by_text(
        cls, num_tokens: int, max_model_len: int, *, param: str | None, is_least: bool = False
    ) -> Self:
        """The error of one text among others that is longer than the context. With `is_least` it
        may have more than `num_tokens`."""
        has = f"at least {num_tokens}" if is_least else str(num_tokens)
        return cls(
            f"This model's maximum context length is {max_model_len} tokens, and `{param}` has"
            f" {has}. Send the text in parts.",
            param=param,
        )


class EngineOverloaded(LockgateError):
    """The waiting queue is full. `retry_after` is in seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class EngineUnavailable(LockgateError):
    """No engine is ready to take the request. `retry_after` is in seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class GpuMemoryPressure(LockgateError):
    """Too little GPU memory is free to take another request. `retry_after` is in seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineExceeded(LockgateError):
    """The request waited until its deadline. `retry_after` is in seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class EngineError(LockgateError):
    """The engine failed while it worked on the request."""


class EngineCrashed(EngineError):
    """The engine's process died of this request each time; it is not tried again."""


class EngineFatal(LockgateError):
    """The engine is beyond repair in this process; another process has to take over."""


class SetupError(LockgateError):
    """Something outside the program is wrong: a file, a setting, a port, a missing package."""


class MissingExtra(SetupError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed. Install it with: pip install 'lockgate[{extra}]'"
        )
        self.package = package
        self.extra = extra


class LibraryUnusable(SetupError):
    """A llama.cpp library is missing, cannot be loaded, or is not as declared."""


class ModelNotFound(SetupError):
    """The name is neither in the catalogue nor a file."""


class ModelFileError(SetupError):
    """A model file cannot be read or is damaged. The message names the field."""


class PullError(SetupError):
    """A model could not be downloaded."""
