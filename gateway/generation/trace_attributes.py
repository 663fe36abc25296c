"""Attributes of a request under OpenTelemetry's names for generative AI."""

from typing import Any

from gateway.api.openai.protocol.requests import (
    ChatCompletionRequest,
    CompletionRequest,
    GenerationRequest,
    WorkRequest,
)

_MAX_MODEL_NAME = 256
"""Characters of a model name, which a client may have made up."""


def request_attributes(data: WorkRequest) -> dict[str, Any]:
    """`gen_ai.request.*` of OpenTelemetry's semantic conventions: numbers, no prompt text."""
    model = {"gen_ai.request.model": data.model[:_MAX_MODEL_NAME]}
    return model | (_generation(data) if isinstance(data, GenerationRequest) else {})


def _generation(data: GenerationRequest) -> dict[str, Any]:
    attributes = {
        "gen_ai.request.max_tokens": _max_tokens(data),
        "gen_ai.request.temperature": data.temperature,
        "gen_ai.request.top_p": data.top_p,
        "gen_ai.request.top_k": data.top_k,
        "gen_ai.request.seed": data.seed,
        "gen_ai.request.presence_penalty": data.presence_penalty,
        "gen_ai.request.frequency_penalty": data.frequency_penalty,
        "gen_ai.request.choice.count": data.n,
        "gen_ai.request.stream": data.stream,
    }
    return {name: value for name, value in attributes.items() if value is not None}


def _max_tokens(data: GenerationRequest) -> int | None:
    match data:
        case ChatCompletionRequest():
            return data.max_completion_tokens or data.max_tokens
        case CompletionRequest():
            return data.max_tokens
    return None
