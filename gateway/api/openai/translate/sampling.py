"""Sampling parameters of OpenAI's endpoints to the runtime's. Pure."""

from collections.abc import Sequence

from gateway.api.openai.protocol.requests import (
    ChatCompletionRequest,
    CompletionRequest,
    GenerationRequest,
    SampledRequest,
)
from gateway.api.openai.translate.structured_output import structured_output
from runtime.errors import InvalidRequest
from runtime.messages.request import SamplingParams
from runtime.messages.structured_output import StructuredOutput


def shared_params(
    data: SampledRequest,
    structured_output: StructuredOutput | None,
    *,
    logprobs: int | None = None,
    prompt_logprobs: int | None = None,
    include_stop: bool = False,
) -> SamplingParams:
    """What all choices of an answer share: everything but the length and the seed."""
    return SamplingParams(
        max_tokens=0,
        temperature=1.0 if data.temperature is None else data.temperature,
        top_p=1.0 if data.top_p is None else data.top_p,
        top_k=max(data.top_k or 0, 0),  # -1 means the same as 0: off
        min_p=data.min_p or 0.0,
        presence_penalty=data.presence_penalty or 0.0,
        frequency_penalty=data.frequency_penalty or 0.0,
        repetition_penalty=1.0 if data.repetition_penalty is None else data.repetition_penalty,
        stop=stop_strings(data.stop),
        ignore_eos=bool(data.ignore_eos),
        stop_token_ids=tuple(data.stop_token_ids or ()),
        min_tokens=data.min_tokens or 0,
        logit_bias=data.logit_bias or {},
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
        include_stop_str_in_output=include_stop,
        structured_output=structured_output,
    )


def sampling_params(data: GenerationRequest) -> SamplingParams:
    """The sampling of a chat or a completion. Raises InvalidRequest."""
    return shared_params(
        data,
        structured_output(data),
        logprobs=_num_logprobs(data),
        prompt_logprobs=_num_prompt_logprobs(data),
        include_stop=bool(data.include_stop_str_in_output),
    )


def stop_strings(stop: str | Sequence[str] | None) -> tuple[str, ...]:
    """The stop strings of a request, which may be one text."""
    if stop is None:
        return ()
    return (stop,) if isinstance(stop, str) else tuple(stop)


def token_limit(num_tokens: int | None, param: str, least: int = 1) -> int | None:
    """The client's limit for the tokens of an answer; None if it sets none. Raises
    InvalidRequest for fewer than `least`."""
    if num_tokens is None or num_tokens == -1:
        return None
    if num_tokens < least:
        raise InvalidRequest(
            f"`{param}` is {num_tokens}: an answer has at least {least} token. Send more, or leave"
            " it out.",
            param=param,
        )
    return num_tokens


def _num_logprobs(data: GenerationRequest) -> int | None:
    """How many of the likeliest tokens to report; `best_of` needs the chosen token's, shown or
    not."""
    if isinstance(data, ChatCompletionRequest):
        return (data.top_logprobs or 0) if data.logprobs else None
    if isinstance(data, CompletionRequest):
        picks = data.best_of is not None and data.best_of > (data.n or 1)
        return 0 if data.logprobs is None and picks else data.logprobs
    return None


def _num_prompt_logprobs(data: GenerationRequest) -> int | None:
    """How many of the likeliest tokens to report at each place of the prompt. An echoed prompt is
    scored if its answers are."""
    echoed = data.logprobs if isinstance(data, CompletionRequest) and data.echo else None
    asked = [number for number in (echoed, data.prompt_logprobs) if number is not None]
    return max(asked, default=None)
