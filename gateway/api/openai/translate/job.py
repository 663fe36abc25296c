"""Chats and completions to jobs. Pure: every default, limit and refusal of a field is here."""

from collections.abc import Mapping

from gateway.api.openai.protocol.requests import (
    ChatCompletionRequest,
    CompletionRequest,
    GenerationRequest,
)
from gateway.api.openai.translate.checks import (
    check_chat,
    check_completion,
    num_candidates,
    num_choices,
)
from gateway.api.openai.translate.messages import named_roles, turns_of
from gateway.api.openai.translate.prompts import completion_prompts
from gateway.api.openai.translate.reasoning import reasoning_wish
from gateway.api.openai.translate.sampling import sampling_params, token_limit
from gateway.api.openai.translate.tools import find_tool_use, no_functions
from gateway.api.openai.translate.unsupported import ignored_verbosity
from gateway.chat.conversation import Conversation, Turn
from gateway.generation.job import Job, TextPrompts, TokenLimit
from gateway.generation.scheduling import Caller, SchedulingWish, scheduling_of
from runtime.errors import InvalidRequest

DEFAULT_COMPLETION_TOKENS = 16

PARAM_NAMES: Mapping[str, str] = {"prompt": "messages"}
"""Names of a chat's parameters that an engine's errors name otherwise."""

ECHO_NAMES: Mapping[str, str] = {"prompt_logprobs": "echo"}
"""The same for a completion with an echo, which is scored like its answer."""


def chat_job(data: ChatCompletionRequest, job_id: str, caller: Caller, lora: str = "") -> Job:
    """The job of a chat. `lora` is the adapter that the model's name stands for; "" is no adapter.
    Raises InvalidRequest, and PermissionDenied for what the caller's key does not allow."""
    check_chat(data)
    return Job(
        id=job_id,
        prompt=conversation_of(data),
        sampling=sampling_params(data),
        limit=TokenLimit(num_tokens=_chat_limit(data)),
        scheduling=scheduling_of(chat_wish(data), caller, lora),
        num_choices=num_choices(data),
        num_candidates=num_candidates(data),
        seed=data.seed,
        truncate_prompt_tokens=data.truncate_prompt_tokens,
        is_streamed=bool(data.stream),
        reports_tokens=bool(data.return_token_ids),
        param_names=PARAM_NAMES,
        ignored={**no_functions(data), **ignored_verbosity(data.verbosity, "verbosity")},
    )


def completion_job(data: CompletionRequest, job_id: str, caller: Caller, lora: str = "") -> Job:
    """The job of a completion; see `chat_job`."""
    check_completion(data)
    return Job(
        id=job_id,
        prompt=TextPrompts(
            prompts=completion_prompts(data),
            suffix=data.suffix or "",
            is_echoed=bool(data.echo),
        ),
        sampling=sampling_params(data),
        limit=TokenLimit(
            num_tokens=token_limit(data.max_tokens, "max_tokens", least=0),
            default=DEFAULT_COMPLETION_TOKENS,
        ),
        scheduling=scheduling_of(completion_wish(data), caller, lora),
        num_choices=num_choices(data),
        num_candidates=num_candidates(data),
        seed=data.seed,
        truncate_prompt_tokens=data.truncate_prompt_tokens,
        is_streamed=bool(data.stream),
        reports_tokens=bool(data.return_token_ids),
        param_names=ECHO_NAMES if data.echo else {},
    )


def conversation_of(data: ChatCompletionRequest) -> Conversation:
    """Everything that the prompt of a chat depends on. Raises InvalidRequest."""
    turns = turns_of(data.messages)
    continuing = _continuing_param(data)
    if continuing is not None:
        _check_continuation(data, turns[-1], continuing)
    return Conversation(
        turns=turns,
        tools=find_tool_use(data),
        reasoning=reasoning_wish(data, data.reasoning_effort),
        continues_last=continuing is not None,
        opens_answer=data.add_generation_prompt is not False,
        variables=data.chat_template_kwargs or {},
        named=named_roles(data.messages),
    )


def chat_wish(data: ChatCompletionRequest) -> SchedulingWish:
    """The scheduling that a chat asks for."""
    return SchedulingWish(
        priority=data.priority,
        tier=data.service_tier,
        tenant=data.safety_identifier or data.user,
        cache_salt=data.cache_salt,
        deadline=data.deadline,
    )


def completion_wish(data: GenerationRequest) -> SchedulingWish:
    """The scheduling that a completion asks for."""
    return SchedulingWish(
        priority=data.priority,
        tenant=data.user,
        cache_salt=data.cache_salt,
        deadline=data.deadline,
    )


def _chat_limit(data: ChatCompletionRequest) -> int | None:
    """The limit of a chat, which has two names. Raises InvalidRequest if they contradict."""
    short = token_limit(data.max_tokens, "max_tokens")
    long = token_limit(data.max_completion_tokens, "max_completion_tokens")
    if short is not None and long is not None and short != long:
        raise InvalidRequest(
            f"`max_tokens` is {short} and `max_completion_tokens` is {long}. They mean the same:"
            " send one of them.",
            param="max_tokens",
        )
    return long if short is None else short


def _continuing_param(data: ChatCompletionRequest) -> str | None:
    """The field that asks for more of the last message; None if none does. Raises InvalidRequest
    for one of a message that is not the last."""
    last, found = len(data.messages) - 1, None
    for index, message in enumerate(data.messages):
        asking = [name for name in ("prefix", "partial") if getattr(message, name, False)]
        if not asking:
            continue
        found = f"messages[{index}].{asking[0]}"
        if index < last:
            raise InvalidRequest(
                f"`{found}` asks for more of a message, which has to be the last one.", param=found
            )
    if found is not None and data.continue_final_message is False:
        raise InvalidRequest(
            f"`{found}` asks for more of the last message and `continue_final_message` does not:"
            " send one of them.",
            param=found,
        )
    return "continue_final_message" if data.continue_final_message else found


def _check_continuation(data: ChatCompletionRequest, last: Turn, param: str) -> None:
    if data.add_generation_prompt:
        raise InvalidRequest(
            f"`add_generation_prompt` begins a new message and `{param}` goes on with the last one:"
            " send one of them.",
            param=param,
        )
    if last.calls:
        raise InvalidRequest(
            f"`{param}` goes on with a text, and the last of `messages` calls tools: send the"
            " results of its calls instead.",
            param=param,
        )
    if last.role != "assistant":
        raise InvalidRequest(
            f"`{param}` goes on with an answer: the last of `messages` has to be the assistant's.",
            param=param,
        )
