"""What a request may ask for beyond the basics, and which engine can do it."""

from typing import Literal

from runtime.errors import InvalidRequest
from runtime.request import Request

Feature = Literal[
    "logit_bias",
    "logprobs",
    "lora",
    "min_tokens",
    "repetition_penalty",
    "stop_token_ids",
    "structured_output",
]

ALL_FEATURES: frozenset[Feature] = frozenset(
    (
        "logit_bias",
        "logprobs",
        "lora",
        "min_tokens",
        "repetition_penalty",
        "stop_token_ids",
        "structured_output",
    )
)

_PARAMETERS: dict[Feature, str] = {"lora": "model", "structured_output": "response_format"}
"""Where a feature is asked for by a parameter of another name."""


def features_of(request: Request) -> list[Feature]:
    """What the request asks for, in alphabetical order."""
    sampling = request.sampling
    asked: dict[Feature, bool] = {
        "logit_bias": bool(sampling.logit_bias),
        "logprobs": sampling.logprobs is not None,
        "lora": bool(request.lora),
        "min_tokens": sampling.min_tokens > 0,
        "repetition_penalty": sampling.repetition_penalty != 1.0,
        "stop_token_ids": bool(sampling.stop_token_ids),
        "structured_output": sampling.structured_output is not None,
    }
    return [feature for feature, is_asked in asked.items() if is_asked]


def check_features(request: Request, supported: frozenset[Feature], engine: str) -> None:
    """Raises InvalidRequest, which names the parameter, for what the engine would ignore."""
    for feature in features_of(request):
        if feature not in supported:
            param = _PARAMETERS.get(feature, feature)
            raise InvalidRequest(
                f"The engine {engine} does not support `{param}`; leave it out.", param=param
            )
