"""The `prompt` of a completion, in each of its forms. Pure."""

from typing import NoReturn

from gateway.api.openai.protocol.requests import CompletionRequest
from runtime.errors import InvalidRequest


def completion_prompts(data: CompletionRequest) -> list[str] | list[list[int]]:
    """The prompts of a completion: at least one, and either all texts or all token ids. Raises
    InvalidRequest."""
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


def _refuse_mixture() -> NoReturn:
    raise InvalidRequest(
        "`prompt` mixes kinds: send texts, or token ids, or lists of token ids.",
        param="prompt",
        code="invalid_type",
    )
