"""The `prompt` of a completion, in whatever form it comes, and what may be done to it. Pure."""

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


def _refuse_mixture() -> NoReturn:
    raise InvalidRequest(
        "`prompt` mixes kinds: send texts, or token ids, or lists of token ids.",
        param="prompt",
        code="invalid_type",
    )
