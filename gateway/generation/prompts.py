"""Prompts as token ids: checks, truncation, fill-in-the-middle."""

from collections.abc import Sequence

from runtime.errors import InvalidRequest
from runtime.tokenizers.token_roles import FimTokens


def empty_prompt(bos_token_id: int | None) -> list[int]:
    """The prompt that stands for an empty one: the beginning of a text."""
    if bos_token_id is None:
        raise InvalidRequest(
            "`prompt` is empty, and this model has no token to begin a text with.", param="prompt"
        )
    return [bos_token_id]


def check_token_ids(prompts: Sequence[Sequence[int]], vocab_size: int) -> None:
    """Refuses ids outside the model's vocabulary."""
    for index, prompt in enumerate(prompts):
        where = f"prompt[{index}]" if len(prompts) > 1 else "prompt"
        if not prompt:
            raise InvalidRequest(f"`{where}` is an empty list.", param=where)
        if min(prompt) < 0 or max(prompt) >= vocab_size:
            raise InvalidRequest(
                f"`{where}` has a token id outside the vocabulary: ids are 0 to {vocab_size - 1}.",
                param=where,
            )


def check_fim(fim_tokens: FimTokens | None, *, is_truncated: bool, is_scored: bool) -> FimTokens:
    """The tokens that mark a gap. Raises InvalidRequest for a `suffix` that this model or this
    request cannot have."""
    if fim_tokens is None:
        raise InvalidRequest(
            "`suffix` is not supported: this model's vocabulary has no tokens to mark a gap with."
            " Leave it out.",
            param="suffix",
            code="unsupported_parameter",
        )
    if is_truncated:
        raise InvalidRequest(
            "`truncate_prompt_tokens` would cut the marks of `suffix` away: send one of them.",
            param="truncate_prompt_tokens",
        )
    if is_scored:
        raise InvalidRequest(
            "`echo` with `logprobs` is not possible together with `suffix`, which is in the"
            " model's prompt and not in the echo. Leave one of them out.",
            param="echo",
        )
    return fim_tokens


def fim_prompt(
    before: Sequence[int], after: Sequence[int], fim: FimTokens, first: Sequence[int]
) -> list[int]:
    """The prompt for the text between `before` and `after`. `first` are the tokens that every
    prompt begins with. `before` precedes `after`, the order that most models are trained on."""
    return [*first, fim.prefix, *before, fim.suffix, *after, fim.middle]


def truncate(prompt: list[int], num_tokens: int, room: int) -> list[int]:
    """Keeps the last `num_tokens` of a prompt; -1 keeps the last `room` tokens, so that the answer
    fits."""
    if num_tokens == 0 or (num_tokens == -1 and room < 1):
        raise InvalidRequest(
            "`truncate_prompt_tokens` leaves nothing of the prompt: it is the number of tokens to"
            " keep, or -1 for as many as fit beside `max_tokens`.",
            param="truncate_prompt_tokens",
        )
    return prompt[-(room if num_tokens == -1 else num_tokens) :]
