"""Engine requests of one answer."""

import random
from collections.abc import Sequence

import msgspec

from gateway.api.openai.protocol.requests import (
    ChatCompletionRequest,
    CompletionRequest,
    GenerationRequest,
)
from gateway.api.openai.translate.checks import (
    DEFAULT_COMPLETION_TOKENS,
    num_candidates,
)
from gateway.api.openai.translate.sampling import sampling_params
from gateway.chat.reasoning.plan import PreparedThinking
from gateway.chat.tools.tool_constraint import ToolConstraint
from gateway.generation.scheduling import Scheduling
from runtime.errors import ContextLengthExceeded, InvalidRequest
from runtime.messages.request import Request, SamplingParams, Thinking

SEED_MASK = 2**63 - 1


def chat_requests(
    data: ChatCompletionRequest,
    prompt: list[int],
    scheduling: Scheduling,
    *,
    answer_id: str,
    max_model_len: int,
    calls: ToolConstraint | None = None,
    thinking: PreparedThinking | None = None,
) -> list[Request]:
    """One request per choice, checked. `calls` describes how the model makes tool calls; `thinking`
    describes the reasoning that follows this prompt."""
    asked = data.max_completion_tokens if data.max_tokens is None else data.max_tokens
    limit = "max_completion_tokens" if data.max_tokens is None else "max_tokens"
    room = _room(len(prompt), asked, max_model_len, prompt_param="messages", limit_param=limit)
    requests = _requests(data, [prompt], [asked or room], scheduling, answer_id)
    if calls is not None:
        requests = [_with_calls(request, calls) for request in requests]
    if thinking is not None:
        requests = [_with_thinking(request, thinking) for request in requests]
    return requests


def completion_requests(
    data: CompletionRequest,
    prompts: list[list[int]],
    scheduling: Scheduling,
    *,
    answer_id: str,
    max_model_len: int,
    limit_param: str = "max_tokens",
    default_tokens: int = DEFAULT_COMPLETION_TOKENS,
) -> list[Request]:
    """One request per prompt and choice, checked; choices of a prompt are neighbors.

    `limit_param` is the client's name for `max_tokens`. If the client sets no limit, an answer has
    at most `default_tokens`, or fewer if the context ends earlier.
    """
    limits = []
    for prompt in prompts:
        room = _room(
            len(prompt),
            data.max_tokens,
            max_model_len,
            prompt_param="prompt",
            limit_param=limit_param,
        )
        default = min(default_tokens, room)
        limits.append(default if data.max_tokens is None else data.max_tokens)
    return _requests(data, prompts, limits, scheduling, answer_id)


def _with_calls(request: Request, calls: ToolConstraint) -> Request:
    sampling = msgspec.structs.replace(
        request.sampling,
        structured_output=calls.structured_output,
        shown_token_ids=calls.shown_token_ids,
    )
    return msgspec.structs.replace(request, sampling=sampling)


def _room(
    prompt_length: int,
    asked: int | None,
    max_model_len: int,
    *,
    prompt_param: str,
    limit_param: str,
) -> int:
    """Tokens left after the prompt. Refuses if none are left, or fewer than the request wants."""
    room = max_model_len - prompt_length
    if room < 0 or (room == 0 and asked != 0):
        raise ContextLengthExceeded(
            f"This model's context is {max_model_len} tokens, and the prompt alone has"
            f" {prompt_length}. Shorten the prompt.",
            param=prompt_param,
        )
    if asked is not None and asked > room:
        raise ContextLengthExceeded(
            f"This model's context is {max_model_len} tokens; {prompt_length + asked} were asked"
            f" for: {prompt_length} in the prompt and {asked} in `{limit_param}`. At most {room}"
            " are left for the answer.",
            param=limit_param,
        )
    return room


def _requests(
    data: GenerationRequest,
    prompts: list[list[int]],
    limits: list[int],
    scheduling: Scheduling,
    answer_id: str,
) -> list[Request]:
    seed = random.getrandbits(63) if data.seed is None else data.seed
    choices = num_candidates(data)
    shared = sampling_params(data)
    for limit in limits:
        _check_min_tokens(shared.min_tokens, limit)
    return [
        Request(
            request_id=f"{answer_id}-{prompt_index * choices + choice}",
            prompt_token_ids=prompt,
            sampling=msgspec.structs.replace(
                shared,
                max_tokens=limits[prompt_index],
                seed=(seed + choice) & SEED_MASK,
            ),
            priority=scheduling.priority,
            tenant=scheduling.tenant,
            cache_salt=scheduling.cache_salt,
            arrival_time=scheduling.arrival_time,
            deadline=scheduling.deadline,
            lora=scheduling.lora,
        )
        for prompt_index, prompt in enumerate(prompts)
        for choice in range(choices)
    ]


def _with_thinking(request: Request, thinking: PreparedThinking) -> Request:
    return msgspec.structs.replace(
        request,
        thinking=_needed_thinking(request, thinking),
        sampling=_showing(request.sampling, thinking.shown_token_ids),
    )


def _showing(sampling: SamplingParams, token_ids: Sequence[int]) -> SamplingParams:
    """Adds `token_ids` to the tokens that the engine shows in the text."""
    shown = sorted({*sampling.shown_token_ids, *token_ids})
    return msgspec.structs.replace(sampling, shown_token_ids=tuple(shown))


def _needed_thinking(request: Request, prepared: PreparedThinking) -> Thinking | None:
    """The reasoning as the engine needs it. None unless the reasoning has a budget or structured
    output has to wait for its end."""
    thinking = prepared.thinking
    waits = request.sampling.structured_output is not None
    return thinking if thinking is not None and (waits or thinking.budget is not None) else None


def _check_min_tokens(min_tokens: int, max_tokens: int) -> None:
    if min_tokens > max_tokens:
        raise InvalidRequest(
            f"`min_tokens` is {min_tokens}, more than the {max_tokens} tokens that the answer may"
            " have.",
            param="min_tokens",
        )
