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
            param = _parameter(request, feature)
            raise InvalidRequest(
                f"The engine {engine} does not support `{param}`; leave it out.", param=param
            )


def _parameter(request: Request, feature: Feature) -> str:
    """The parameter of the API that asks for a feature."""
    wanted = request.sampling.structured_output
    if feature == "structured_output" and wanted is not None:
        return wanted.source
    return "model" if feature == "lora" else feature
