"""Sampling parameters: OpenAI's and the usual ones beyond them to the runtime's. Pure."""

from collections.abc import Collection

from gateway.api.openai.protocol.requests import (
    ChatCompletionRequest,
    CompletionRequest,
    GenerationRequest,
)
from gateway.api.openai.protocol.response_format import structured_output
from runtime.errors import InvalidRequest
from runtime.messages.request import SamplingParams


def check_sampling(data: GenerationRequest) -> None:
    """Refuse what contradicts itself, before the prompt is known."""
    structured_output(data)
    if isinstance(data, ChatCompletionRequest) and data.top_logprobs and not data.logprobs:
        raise InvalidRequest(
            "`top_logprobs` is only allowed together with `logprobs: true`.", param="top_logprobs"
        )


def check_sampling_tokens(data: GenerationRequest, vocab_size: int) -> None:
    """Refuse ids that the model does not have."""
    named: dict[str, Collection[int]] = {
        "logit_bias": data.logit_bias or {},
        "stop_token_ids": data.stop_token_ids or [],
    }
    for param, token_ids in named.items():
        if token_ids and max(token_ids) >= vocab_size:
            raise InvalidRequest(
                f"`{param}` has a token id outside the vocabulary: ids are 0 to {vocab_size - 1}.",
                param=param,
            )


def sampling_params(data: GenerationRequest) -> SamplingParams:
    """All that the choices of an answer have in common: not the length, and not the seed."""
    stop = () if data.stop is None else (data.stop,) if isinstance(data.stop, str) else data.stop
    return SamplingParams(
        max_tokens=0,
        temperature=1.0 if data.temperature is None else data.temperature,
        top_p=1.0 if data.top_p is None else data.top_p,
        top_k=max(data.top_k or 0, 0),  # -1 means the same as 0: off
        min_p=data.min_p or 0.0,
        presence_penalty=data.presence_penalty or 0.0,
        frequency_penalty=data.frequency_penalty or 0.0,
        repetition_penalty=1.0 if data.repetition_penalty is None else data.repetition_penalty,
        stop=tuple(stop),
        ignore_eos=bool(data.ignore_eos),
        stop_token_ids=tuple(data.stop_token_ids or ()),
        min_tokens=data.min_tokens or 0,
        logit_bias=data.logit_bias or {},
        logprobs=_num_logprobs(data),
        prompt_logprobs=_num_prompt_logprobs(data),
        include_stop_str_in_output=bool(data.include_stop_str_in_output),
        structured_output=structured_output(data),
    )


def scores_prompt(data: CompletionRequest) -> bool:
    """Whether the log-probabilities of an echoed prompt are wanted."""
    return bool(data.echo) and data.logprobs is not None


def _num_logprobs(data: GenerationRequest) -> int | None:
    """Of the likeliest tokens; `best_of` needs the chosen one's, shown or not."""
    if isinstance(data, ChatCompletionRequest):
        return (data.top_logprobs or 0) if data.logprobs else None
    if isinstance(data, CompletionRequest):
        picks = data.best_of is not None and data.best_of > (data.n or 1)
        return 0 if data.logprobs is None and picks else data.logprobs
    return None


def _num_prompt_logprobs(data: GenerationRequest) -> int | None:
    if isinstance(data, CompletionRequest) and scores_prompt(data):
        return data.logprobs
    return None
