"""Optional features of requests, and the check that an engine supports them."""

from typing import Literal, get_args

import msgspec

from runtime.errors import InvalidRequest
from runtime.messages.request import Request

Feature = Literal[
    "logit_bias",
    "logprobs",
    "lora",
    "min_tokens",
    "prompt_logprobs",
    "repetition_penalty",
    "stop_token_ids",
    "structured_output",
    "thinking_token_budget",
]

_PARAMETERS: dict[Feature, str] = {"lora": "model"}
"""Features whose API parameter has another name."""

ALL_FEATURES: frozenset[Feature] = frozenset(get_args(Feature))


def features_of(request: Request) -> list[Feature]:
    """The features that the request asks for, in alphabetical order."""
    sampling = request.sampling
    structured = sampling.structured_output
    asked: dict[Feature, bool] = {
        "logit_bias": bool(sampling.logit_bias),
        "logprobs": sampling.logprobs is not None,
        "lora": bool(request.lora),
        "min_tokens": sampling.min_tokens > 0,
        "prompt_logprobs": sampling.prompt_logprobs is not None,
        "repetition_penalty": sampling.repetition_penalty != 1.0,
        "stop_token_ids": bool(sampling.stop_token_ids),
        "structured_output": structured is not None and not structured.is_optional,
        "thinking_token_budget": request.thinking is not None
        and request.thinking.budget is not None,
    }
    return [feature for feature, is_asked in asked.items() if is_asked]


def check_features(request: Request, supported: frozenset[Feature], engine: str) -> None:
    """Raises InvalidRequest, which names the parameter, for a feature that the engine does not
    support."""
    for feature in features_of(request):
        if feature not in supported:
            param = _parameter(request, feature)
            what = f"`{param}`"
            if feature == "prompt_logprobs":
                what = f"log-probabilities of the prompt, which {what} asks for"
            raise InvalidRequest(
                f"The engine {engine} does not support {what}; leave it out.",
                param=param,
                code="unsupported_parameter",
            )


def without_optional(request: Request) -> Request:
    """The request without its structured output, if that is optional: for an engine that has
    none."""
    wanted = request.sampling.structured_output
    if wanted is None or not wanted.is_optional:
        return request
    sampling = msgspec.structs.replace(request.sampling, structured_output=None)
    return msgspec.structs.replace(request, sampling=sampling)


def check_token_ids(request: Request, vocab_size: int) -> None:
    """Raises InvalidRequest if `logit_bias` or `stop_token_ids` has an id outside the
    vocabulary."""
    for param in ("logit_bias", "stop_token_ids"):
        token_ids = getattr(request.sampling, param)
        if token_ids and not 0 <= min(token_ids) <= max(token_ids) < vocab_size:
            raise InvalidRequest(
                f"A token id of `{param}` is outside 0..{vocab_size - 1}.", param=param
            )


def _parameter(request: Request, feature: Feature) -> str:
    """The parameter of the API that asks for a feature."""
    wanted = request.sampling.structured_output
    if feature == "structured_output" and wanted is not None:
        return wanted.source
    return _PARAMETERS.get(feature, feature)
