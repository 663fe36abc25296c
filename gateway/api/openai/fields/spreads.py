"""Fields of other servers that say in one value what several fields say here. Pure."""

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Raw, Struct

from gateway.api.openai.fields.fates import Spread
from gateway.api.openai.protocol.params import NumTokens
from gateway.chat.reasoning.wish import ReasoningEffort


class ThinkingSwitch(Struct, frozen=True):
    """Anthropic's and DeepSeek's `thinking`."""

    type: Literal["enabled", "disabled", "adaptive", "auto"]
    budget_tokens: NumTokens | None = None


class ReasoningChoice(Struct, frozen=True):
    """OpenRouter's `reasoning` of a chat. `exclude` keeps the reasoning out of the answer."""

    effort: ReasoningEffort | None = None
    max_tokens: NumTokens | None = None
    exclude: bool | None = None
    enabled: bool | None = None


class TypedGrammar(Struct, frozen=True):
    """TGI's `grammar`."""

    type: Literal["json", "json_schema", "regex"]
    value: Raw


def _of_thinking(value: bool | ThinkingSwitch | None) -> Mapping[str, Any]:
    if isinstance(value, bool):
        return {"enable_thinking": value}
    if value is None or value.type == "auto":
        return {}
    if value.type == "disabled":
        return {"enable_thinking": False}
    budget = {} if value.budget_tokens is None else {"thinking_token_budget": value.budget_tokens}
    return {"enable_thinking": True, **budget}


def _of_think(value: bool | ReasoningEffort | None) -> Mapping[str, Any]:
    return {"enable_thinking" if isinstance(value, bool) else "reasoning_effort": value}


def _of_reasoning(value: ReasoningChoice | None) -> Mapping[str, Any]:
    if value is None:
        return {}
    fields = {
        "reasoning_effort": value.effort,
        "thinking_token_budget": value.max_tokens,
        "include_reasoning": False if value.exclude else None,
        "enable_thinking": value.enabled,
    }
    return {name: each for name, each in fields.items() if each is not None}


def _of_grammar(value: str | TypedGrammar | None) -> Mapping[str, Any]:
    if not value:
        return {}
    if isinstance(value, str):
        return {"guided_grammar": value}
    return {"guided_regex" if value.type == "regex" else "guided_json": value.value}


def _of_format(value: str | dict[str, Any] | None) -> Mapping[str, Any]:
    if not value:
        return {}
    if value == "json":
        return {"response_format": {"type": "json_object"}}
    return {"guided_json": value}


SPREADS: Mapping[str, Spread] = {
    "thinking": Spread(bool | ThinkingSwitch | None, _of_thinking),
    "think": Spread(bool | ReasoningEffort | None, _of_think),
    "reasoning": Spread(ReasoningChoice | None, _of_reasoning),
    "grammar": Spread(str | TypedGrammar | None, _of_grammar),
    "format": Spread(str | dict[str, Any] | None, _of_format),
}
