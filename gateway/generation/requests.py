"""A job to the engine's requests."""

import random
from collections.abc import Sequence
from typing import NoReturn

import msgspec

from gateway.chat.conversation import Conversation
from gateway.chat.reasoning.plan import PreparedThinking
from gateway.chat.tools.tool_constraint import ToolConstraint
from gateway.generation.job import Job, TokenLimit
from gateway.generation.prepare import PreparedPrompts
from runtime.errors import ContextLengthExceeded, InvalidRequest
from runtime.messages.request import Request, SamplingParams, Thinking

SEED_MASK = 2**63 - 1


def check_sampling_tokens(sampling: SamplingParams, vocab_size: int) -> None:
    """Raises InvalidRequest for token ids that the model does not have."""
    bias, stop = sampling.logit_bias, sampling.stop_token_ids
    if max(bias, default=0) >= vocab_size:
        _refuse_token(f"logit_bias['{max(bias)}']", vocab_size)
    if max(stop, default=0) >= vocab_size:
        _refuse_token(f"stop_token_ids[{stop.index(max(stop))}]", vocab_size)


def _refuse_token(param: str, vocab_size: int) -> NoReturn:
    raise InvalidRequest(
        f"`{param}` is a token id outside the vocabulary: ids are 0 to {vocab_size - 1}.",
        param=param,
    )


def engine_requests(
    job: Job,
    prepared: PreparedPrompts,
    max_model_len: int,
    tool_constraint: ToolConstraint | None = None,
) -> list[Request]:
    """One request per prompt and candidate, checked; candidates of a prompt are neighbors.
    `max_model_len` is in tokens, prompt and answer together."""
    prompt_param = job.prompt.param if isinstance(job.prompt, Conversation) else "prompt"
    limits = [
        _max_tokens(job.limit, len(prompt), max_model_len, prompt_param)
        for prompt in prepared.token_ids
    ]
    for limit in limits:
        _check_min_tokens(job.sampling.min_tokens, limit)
    sampling = _shared_sampling(job.sampling, tool_constraint, prepared.thinking)
    thinking = _needed_thinking(sampling, prepared.thinking)
    return _requests(job, prepared.token_ids, limits, sampling, thinking)


def _max_tokens(
    limit: TokenLimit, prompt_length: int, max_model_len: int, prompt_param: str
) -> int:
    """The limit of an answer; at most what the context has left after the prompt. Raises
    ContextLengthExceeded if the context has nothing left."""
    asked = limit.default if limit.num_tokens is None else limit.num_tokens
    room = max_model_len - prompt_length
    if room < 0 or (room == 0 and asked != 0):
        raise ContextLengthExceeded.by_prompt(prompt_length, max_model_len, param=prompt_param)
    return room if asked is None else min(asked, room)


def _requests(
    job: Job,
    prompts: Sequence[list[int]],
    limits: Sequence[int],
    sampling: SamplingParams,
    thinking: Thinking | None,
) -> list[Request]:
    seed = random.getrandbits(63) if job.seed is None else job.seed
    scheduling = job.scheduling
    return [
        Request(
            request_id=f"{job.id}-{prompt_index * job.num_candidates + candidate}",
            prompt_token_ids=prompt,
            sampling=msgspec.structs.replace(
                sampling, max_tokens=limits[prompt_index], seed=(seed + candidate) & SEED_MASK
            ),
            priority=scheduling.priority,
            tenant=scheduling.tenant,
            cache_salt=scheduling.cache_salt,
            arrival_time=scheduling.arrival_time,
            deadline=scheduling.deadline,
            lora=scheduling.lora,
            thinking=thinking,
        )
        for prompt_index, prompt in enumerate(prompts)
        for candidate in range(job.num_candidates)
    ]


def _shared_sampling(
    sampling: SamplingParams, calls: ToolConstraint | None, thinking: PreparedThinking | None
) -> SamplingParams:
    """The job's sampling with the constraint of its tool calls, and with the tokens that a parser
    needs to see in the text."""
    shown = set() if calls is None else set(calls.shown_token_ids)
    if thinking is not None:
        shown |= set(thinking.shown_token_ids)
    structured = sampling.structured_output if calls is None else calls.structured_output
    return msgspec.structs.replace(
        sampling, structured_output=structured, shown_token_ids=tuple(sorted(shown))
    )


def _needed_thinking(
    sampling: SamplingParams, prepared: PreparedThinking | None
) -> Thinking | None:
    """The reasoning as the engine needs it. None unless the reasoning has a budget or structured
    output has to wait for its end."""
    thinking = None if prepared is None else prepared.thinking
    waits = sampling.structured_output is not None
    return thinking if thinking is not None and (waits or thinking.budget is not None) else None


def _check_min_tokens(min_tokens: int, max_tokens: int) -> None:
    if min_tokens > max_tokens:
        raise InvalidRequest(
            f"`min_tokens` is {min_tokens}, more than the {max_tokens} tokens that the answer may"
            " have.",
            param="min_tokens",
        )
