"""OpenAI's requests to the runtime's. Pure: every default, limit and refusal is applied here."""

import random
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import msgspec

from gateway.protocol import (
    AssistantMessage,
    ChatCompletionRequest,
    CompletionRequest,
    Content,
    DeveloperMessage,
    FunctionCall,
    FunctionMessage,
    GenerationRequest,
    Message,
    RefusalPart,
    TextPart,
    ToolCall,
    ToolMessage,
)
from gateway.response_format import structured_output
from gateway.service import Service
from runtime import ContextLengthExceeded, InvalidRequest, Request, SamplingParams

HARMLESS: Mapping[str, str] = {
    "user": "names the end user, who takes a fair share of the engine",
    "safety_identifier": "names the end user, and wins over `user`",
    "metadata": "labels for stored answers; nothing is stored",
    "store": "keeps the answer for later; the answer is the same",
    "service_tier": "how soon, not what: `gateway.service`; the answer says which tier it had",
    "prompt_cache_key": "hint for the prompt cache, which finds prefixes by itself",
    "prompt_cache_options": "hint for the prompt cache",
    "prompt_cache_retention": "hint for the prompt cache",
    "prediction": "a guess at the answer, to have it sooner",
    "parallel_tool_calls": "without effect as long as there are no tools",
}
"""Accepted without effect on what is said: the answer is the same with and without."""

NEUTRAL_IN_CHAT: Mapping[str, tuple[Any, ...]] = {
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "reasoning_effort": (),
    "verbosity": ("medium",),
    "modalities": (["text"],),
    "audio": (),
    "web_search_options": (),
    "moderation": (),
}
"""Not supported: refused unless null or one of these values, which ask for nothing."""

NEUTRAL_IN_COMPLETION: Mapping[str, tuple[Any, ...]] = {
    "logit_bias": ({},),
    "logprobs": (),
    "suffix": ("",),
}
"""The same for /v1/completions."""

DEFAULT_COMPLETION_TOKENS = 16
SEED_MASK = 2**63 - 1


def check_chat(data: ChatCompletionRequest) -> None:
    """Refuse what can be refused before the prompt is known."""
    _check_common(data, NEUTRAL_IN_CHAT)
    short, long = data.max_tokens, data.max_completion_tokens
    if short is not None and long is not None and short != long:
        raise InvalidRequest(
            f"`max_tokens` is {short} and `max_completion_tokens` is {long}. They mean the same:"
            " send one of them.",
            param="max_tokens",
        )


def check_completion(data: CompletionRequest) -> None:
    """Refuse what can be refused before the prompt is known."""
    _check_common(data, NEUTRAL_IN_COMPLETION)
    if data.best_of is None or data.best_of == num_choices(data):
        return
    if data.best_of < num_choices(data):
        raise InvalidRequest(
            f"`best_of` is {data.best_of}, less than `n`, which is {num_choices(data)}.",
            param="best_of",
        )
    _refuse_parameter("best_of")


def num_choices(data: GenerationRequest) -> int:
    """Answers to each prompt."""
    return 1 if data.n is None else data.n


def template_messages(messages: Sequence[Message], *, tool_messages: bool) -> list[dict[str, Any]]:
    """Messages as chat templates want them: text contents, `system` for `developer`, `tool` for
    `function`. `tool_messages` says whether the model's template shows results of tools."""
    translated = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if isinstance(message, ToolMessage | FunctionMessage) and not tool_messages:
            raise InvalidRequest(
                "This model's chat template has no place for messages of this role.",
                param=f"{where}.role",
                code="unsupported_value",
            )
        translated.append(_template_message(message, where))
    return translated


def completion_prompts(data: CompletionRequest) -> list[str] | list[list[int]]:
    """The prompts of a completion: all texts or all token ids, at least one, none unchecked."""
    prompt = "" if data.prompt is None else data.prompt
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise InvalidRequest("`prompt` is an empty list.", param="prompt")
    if texts := [item for item in prompt if isinstance(item, str)]:
        return texts if len(texts) == len(prompt) else _refuse_mixture()
    if token_lists := [item for item in prompt if isinstance(item, list)]:
        return token_lists if len(token_lists) == len(prompt) else _refuse_mixture()
    return [[item for item in prompt if isinstance(item, int)]]


def empty_prompt(bos_token_id: int | None) -> list[int]:
    """The beginning of a text: what a prompt without a token stands for."""
    if bos_token_id is None:
        raise InvalidRequest(
            "`prompt` is empty, and this model has no token to begin a text with.", param="prompt"
        )
    return [bos_token_id]


def check_token_ids(prompts: Sequence[Sequence[int]], vocab_size: int) -> None:
    """Refuse ids that the model does not have."""
    for index, prompt in enumerate(prompts):
        where = f"prompt[{index}]" if len(prompts) > 1 else "prompt"
        if not prompt:
            raise InvalidRequest(f"`{where}` is an empty list.", param=where)
        if min(prompt) < 0 or max(prompt) >= vocab_size:
            raise InvalidRequest(
                f"`{where}` has a token id outside the vocabulary: ids are 0 to {vocab_size - 1}.",
                param=where,
            )


def chat_requests(
    data: ChatCompletionRequest,
    prompt: list[int],
    service: Service,
    *,
    answer_id: str,
    max_model_len: int,
) -> list[Request]:
    """One request per choice, checked."""
    asked = data.max_completion_tokens if data.max_tokens is None else data.max_tokens
    limit = "max_completion_tokens" if data.max_tokens is None else "max_tokens"
    room = _room(len(prompt), asked, max_model_len, prompt_param="messages", limit_param=limit)
    return _requests(data, [prompt], [asked or room], service, answer_id)


def completion_requests(
    data: CompletionRequest,
    prompts: list[list[int]],
    service: Service,
    *,
    answer_id: str,
    max_model_len: int,
) -> list[Request]:
    """One request per prompt and choice, checked; choices of a prompt are neighbours."""
    limits = []
    for prompt in prompts:
        room = _room(
            len(prompt),
            data.max_tokens,
            max_model_len,
            prompt_param="prompt",
            limit_param="max_tokens",
        )
        default = min(DEFAULT_COMPLETION_TOKENS, room)
        limits.append(default if data.max_tokens is None else data.max_tokens)
    return _requests(data, prompts, limits, service, answer_id)


def _check_common(data: GenerationRequest, neutral: Mapping[str, tuple[Any, ...]]) -> None:
    structured_output(data)
    for name, values in neutral.items():
        value = getattr(data, name)
        if value is not None and value not in values:
            _refuse_parameter(name)
    if data.stream_options is not None and not data.stream:
        raise InvalidRequest(
            "`stream_options` is only allowed together with `stream: true`.",
            param="stream_options",
        )


def _refuse_parameter(name: str) -> NoReturn:
    raise InvalidRequest(
        f"`{name}` is not supported by this server. Leave it out.",
        param=name,
        code="unsupported_parameter",
    )


def _refuse_mixture() -> NoReturn:
    raise InvalidRequest(
        "`prompt` mixes kinds: send texts, or token ids, or lists of token ids.",
        param="prompt",
        code="invalid_type",
    )


def _room(
    prompt_length: int,
    asked: int | None,
    max_model_len: int,
    *,
    prompt_param: str,
    limit_param: str,
) -> int:
    """Tokens left after the prompt; refuses when there are none or fewer than were asked for."""
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
    service: Service,
    answer_id: str,
) -> list[Request]:
    seed = random.getrandbits(63) if data.seed is None else data.seed
    choices = num_choices(data)
    stop = () if data.stop is None else (data.stop,) if isinstance(data.stop, str) else data.stop
    shared = SamplingParams(
        max_tokens=0,
        temperature=1.0 if data.temperature is None else data.temperature,
        top_p=1.0 if data.top_p is None else data.top_p,
        presence_penalty=data.presence_penalty or 0.0,
        frequency_penalty=data.frequency_penalty or 0.0,
        stop=tuple(stop),
        structured_output=structured_output(data),
    )
    return [
        Request(
            request_id=f"{answer_id}-{prompt_index * choices + choice}",
            prompt_token_ids=prompt,
            sampling=msgspec.structs.replace(
                shared,
                max_tokens=limits[prompt_index],
                seed=(seed + choice) & SEED_MASK,
            ),
            priority=service.priority,
            tenant=service.tenant,
            cache_salt=service.cache_salt,
            arrival_time=service.arrival_time,
            deadline=service.deadline,
        )
        for prompt_index, prompt in enumerate(prompts)
        for choice in range(choices)
    ]


def _template_message(message: Message, where: str) -> dict[str, Any]:
    translated: dict[str, Any]
    match message:
        case AssistantMessage():
            return _assistant_message(message, where)
        case ToolMessage(content=content, tool_call_id=call_id):
            text = _text(content, where)
            translated = {"role": "tool", "content": text, "tool_call_id": call_id}
        case FunctionMessage(content=content):
            translated = {"role": "tool", "content": content or ""}
        case DeveloperMessage(content=content):
            translated = {"role": "system", "content": _text(content, where)}
        case _:
            role = message.__struct_config__.tag
            translated = {"role": role, "content": _text(message.content, where)}
    if message.name is not None:
        translated["name"] = message.name
    return translated


def _assistant_message(message: AssistantMessage, where: str) -> dict[str, Any]:
    if message.audio is not None:
        _refuse_content(f"{where}.audio", "Audio")
    calls = list(message.tool_calls or ())
    if message.function_call is not None:
        calls.append(ToolCall(message.function_call))
    if message.content is None and message.refusal is None and not calls:
        raise InvalidRequest(
            f"`{where}.content` is required unless the message has `tool_calls`.",
            param=f"{where}.content",
            code="missing_required_parameter",
        )
    content = message.refusal if message.content is None else message.content
    translated: dict[str, Any] = {"role": "assistant", "content": _text(content or "", where)}
    if calls:
        translated["tool_calls"] = [_template_tool_call(call) for call in calls]
    if message.name is not None:
        translated["name"] = message.name
    return translated


def _template_tool_call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.function.name, "arguments": _arguments(call.function)}
    return {"id": call.id, "type": "function", "function": function}


def _arguments(call: FunctionCall) -> Any:
    """Templates write arguments as JSON, so they get the object; broken JSON stays a string."""
    try:
        return msgspec.json.decode(call.arguments)
    except msgspec.DecodeError:
        return call.arguments


def _text(content: Content, where: str) -> str:
    """Text of a message; several parts are separate lines."""
    if isinstance(content, str):
        return content
    texts = []
    for index, part in enumerate(content):
        match part:
            case TextPart(text) | RefusalPart(text):
                texts.append(text)
            case _:
                _refuse_content(f"{where}.content[{index}]", f"`{part.__struct_config__.tag}`")
    return "\n".join(texts)


def _refuse_content(param: str, kind: str) -> NoReturn:
    raise InvalidRequest(
        f"{kind} is not supported in `{param}`: this server takes text.",
        param=param,
        code="unsupported_value",
    )
