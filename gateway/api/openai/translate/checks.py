"""Refuses requests that contradict themselves, before anything else is known. Pure."""

from typing import Protocol

from gateway.api.openai.protocol.requests import (
    ChatCompletionRequest,
    CompletionRequest,
    GenerationRequest,
)
from gateway.api.openai.translate.unsupported import check_supported
from runtime.errors import InvalidRequest


def check_chat(data: ChatCompletionRequest) -> None:
    """Raises InvalidRequest."""
    _check_common(data)
    if data.top_logprobs and not data.logprobs:
        raise InvalidRequest(
            "`top_logprobs` is only allowed together with `logprobs: true`.", param="top_logprobs"
        )


def check_completion(data: CompletionRequest) -> None:
    """Raises InvalidRequest."""
    _check_common(data)
    if data.best_of is None:
        return
    if data.best_of < num_choices(data):
        raise InvalidRequest(
            f"`best_of` is {data.best_of}, less than `n`, which is {num_choices(data)}.",
            param="best_of",
        )
    if data.stream and data.best_of > num_choices(data):
        raise InvalidRequest(
            "`best_of` needs whole answers to choose from: it is not possible with `stream: true`.",
            param="best_of",
        )


def num_choices(data: GenerationRequest) -> int:
    """Answers to each prompt that the client gets."""
    return 1 if data.n is None else data.n


def num_candidates(data: GenerationRequest) -> int:
    """Answers to each prompt that are generated."""
    if isinstance(data, CompletionRequest) and data.best_of is not None:
        return data.best_of
    return num_choices(data)


class StreamFields(Protocol):
    """The fields of a request that concern streams."""

    @property
    def stream(self) -> bool | None: ...

    @property
    def stream_options(self) -> object: ...


def check_stream_options(data: StreamFields) -> None:
    """Raises InvalidRequest for options of a stream if the client asks for none."""
    if data.stream_options is not None and not data.stream:
        raise InvalidRequest(
            "`stream_options` is only allowed together with `stream: true`.",
            param="stream_options",
        )


def _check_common(data: GenerationRequest) -> None:
    check_supported(data)
    check_stream_options(data)
    if data.stream and data.prompt_logprobs is not None:
        raise InvalidRequest(
            "`prompt_logprobs` come with whole answers alone: leave out `stream`.",
            param="prompt_logprobs",
        )
