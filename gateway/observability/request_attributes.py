"""Attributes of a request under OpenTelemetry's names for generative AI."""

from collections.abc import Mapping
from typing import Any

_MAX_MODEL_NAME = 256
"""Characters of a model name, which a client may have made up."""

_ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "max_tokens": ("max_completion_tokens", "max_tokens", "max_output_tokens", "max_new_tokens"),
    "temperature": ("temperature",),
    "top_p": ("top_p",),
    "top_k": ("top_k",),
    "seed": ("seed",),
    "presence_penalty": ("presence_penalty",),
    "frequency_penalty": ("frequency_penalty",),
    "choice.count": ("n",),
    "stream": ("stream",),
}
"""Attributes of `gen_ai.request`, and the names that the APIs have for them."""


def request_attributes(data: object, model_name: str) -> dict[str, Any]:
    """`gen_ai.request.*` of OpenTelemetry's semantic conventions: numbers, no prompt text.

    `data` is a decoded body, and `model_name` the name by which the client asked for the model.
    """
    attributes: dict[str, Any] = {"gen_ai.request.model": model_name[:_MAX_MODEL_NAME]}
    for attribute, names in _ATTRIBUTES.items():
        values = (getattr(data, name, None) for name in names)
        value = next((value for value in values if value is not None), None)
        if value is not None:
            attributes[f"gen_ai.request.{attribute}"] = value
    return attributes
