"""The fields of /v1/responses that are not honoured. Pure.

The rule is that of `gateway.api.openai.translate.unsupported`: a field is honoured, or harmless, or
refused by name.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from gateway.api.openai.responses.protocol import ResponseRequest
from runtime.errors import InvalidRequest


class Refused(Struct, frozen=True):
    """The advice for a refused field, and the values that are accepted, besides null, because they
    ask for nothing."""

    advice: str = "Leave it out."
    neutral: tuple[Any, ...] = ()


REFUSED: Mapping[str, Refused] = {
    "prompt": Refused("Prompts are not stored: send it in `instructions` and `input`."),
    "moderation": Refused(),
    "messages": Refused("The name here is `input`."),
    "max_tokens": Refused("The name here is `max_output_tokens`."),
    "max_completion_tokens": Refused("The name here is `max_output_tokens`."),
    "response_format": Refused("The name here is `text.format`."),
    "reasoning_effort": Refused("The name here is `reasoning.effort`."),
    "functions": Refused("Send `tools`."),
    "function_call": Refused("Send `tool_choice`."),
    "logprobs": Refused('Send `include: ["message.output_text.logprobs"]`.', (False,)),
    "n": Refused("A response is one answer: send several requests.", (1,)),
}

REFUSED_INSIDE: Mapping[str, Refused] = {
    "reasoning.mode": Refused(neutral=("standard",)),
    "reasoning.context": Refused(neutral=("auto",)),
}
"""The same of fields one level below."""

HARMLESS: Mapping[str, str] = {
    "user": "names the end user, who takes a fair share of the engine",
    "safety_identifier": "names the end user, and wins over `user`",
    "metadata": "labels, which the answer repeats",
    "store": "whether the response is remembered; the answer says so",
    "service_tier": "how soon, not what; the answer says which tier it had",
    "prompt_cache_key": "hint for the prompt cache, which finds prefixes by itself",
    "prompt_cache_options": "hint for the prompt cache",
    "prompt_cache_retention": "hint for the prompt cache",
    "max_tool_calls": "limits the tools that a server calls by itself; this one calls none",
}
"""Accepted without effect on what is said."""


def check_supported(data: ResponseRequest) -> None:
    """Raises InvalidRequest for a field that asks for something that this server does not do."""
    for name, refused in REFUSED.items():
        _check(name, getattr(data, name, None), refused)
    for path, refused in REFUSED_INSIDE.items():
        outer, inner = path.split(".")
        _check(path, getattr(getattr(data, outer), inner, None), refused)


def describe(properties: dict[str, Any]) -> None:
    """Adds to the JSON schema of a request what becomes of these fields."""
    for name in REFUSED.keys() & properties.keys():
        refused = REFUSED[name]
        properties[name] = {
            "enum": [None, *refused.neutral],
            "description": f"Not supported: refused unless it asks for nothing. {refused.advice}",
        }
    for name in HARMLESS.keys() & properties.keys():
        properties[name]["description"] = f"Without effect on the answer: {HARMLESS[name]}."


def describe_inside(schemas: Mapping[str, Any]) -> None:
    """Adds the same for fields one level below. `schemas` are those of TextOptions and
    ReasoningOptions."""
    for outer, kind in (("text", "TextOptions"), ("reasoning", "ReasoningOptions")):
        for path, refused in REFUSED_INSIDE.items():
            if path.startswith(f"{outer}."):
                description = f"Not supported: refused unless it asks for nothing. {refused.advice}"
                schema = {"enum": [None, *refused.neutral], "description": description}
                schemas[kind]["properties"][path.partition(".")[2]] = schema


def _check(path: str, value: Any, refused: Refused) -> None:
    # 0 and 1 are equal to booleans, which ask for something else
    if value is None or any(
        value == item and type(value) is type(item) for item in refused.neutral
    ):
        return
    raise InvalidRequest(
        f"`{path}` is not supported by this server. {refused.advice}",
        param=path,
        code="unsupported_parameter",
    )
