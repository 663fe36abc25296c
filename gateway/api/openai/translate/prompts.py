"""The `prompt` of a completion, in whatever form it comes, and what may be done to it. Pure."""

from collections.abc import Sequence
from typing import NoReturn

from gateway.api.openai.protocol.requests import CompletionRequest
from gateway.api.openai.translate.sampling import scores_prompt
from runtime.errors import InvalidRequest
from runtime.tokenizers.token_roles import FimTokens


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


def check_fim(data: CompletionRequest, fim_tokens: FimTokens | None) -> FimTokens:
    """The tokens that mark a gap. Refuses a `suffix` that this model or request cannot have."""
    if fim_tokens is None:
        raise InvalidRequest(
            "`suffix` is not supported: this model's vocabulary has no tokens to mark a gap with."
            " Leave it out.",
            param="suffix",
            code="unsupported_parameter",
        )
    if data.truncate_prompt_tokens is not None:
        raise InvalidRequest(
            "`truncate_prompt_tokens` would cut the marks of `suffix` away: send one of them.",
            param="truncate_prompt_tokens",
        )
    if scores_prompt(data):
        raise InvalidRequest(
            "`echo` with `logprobs` is not possible together with `suffix`, which is in the"
            " model's prompt and not in the echo. Leave one of them out.",
            param="echo",
        )
    return fim_tokens


def fim_prompt(
    before: Sequence[int], after: Sequence[int], fim: FimTokens, first: Sequence[int]
) -> list[int]:
    """The prompt for what stands between two texts: `first` are the tokens that every prompt begins
    with. The text in front comes first, as in the order that models are trained on most."""
    return [*first, fim.prefix, *before, fim.suffix, *after, fim.middle]


def truncate(prompt: list[int], num_tokens: int | None, room: int) -> list[int]:
    """The last `num_tokens` of a prompt; for -1 as many as leave `room` for the answer: the last
    `room` of them. None leaves it alone."""
    if num_tokens is None:
        return prompt
    if num_tokens == 0 or (num_tokens == -1 and room < 1):
        raise InvalidRequest(
            "`truncate_prompt_tokens` leaves nothing of the prompt: it is the number of tokens to"
            " keep, or -1 for as many as fit beside `max_tokens`.",
            param="truncate_prompt_tokens",
        )
    return prompt[-(room if num_tokens == -1 else num_tokens) :]


def _refuse_mixture() -> NoReturn:
    raise InvalidRequest(
        "`prompt` mixes kinds: send texts, or token ids, or lists of token ids.",
        param="prompt",
        code="invalid_type",
    )
