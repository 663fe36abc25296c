"""What chats and responses ask of the reasoning. Pure."""

from typing import Protocol

from gateway.chat.reasoning.wish import ReasoningEffort, ReasoningWish
from runtime.errors import InvalidRequest


class ReasoningFields(Protocol):
    """The fields that both have by the same names; each may be None."""

    enable_thinking: bool | None
    thinking_token_budget: int | None
    include_reasoning: bool | None


def reasoning_wish(
    data: ReasoningFields,
    effort: ReasoningEffort | None,
    effort_param: str = "reasoning_effort",
) -> ReasoningWish:
    """The wish of a request with this effort, which it has in `effort_param`. Raises InvalidRequest
    for an effort that contradicts `enable_thinking`."""
    is_on = data.enable_thinking
    if is_on is not None and effort is not None and is_on == (effort == "none"):
        raise InvalidRequest(
            f"`{effort_param}` is `{effort}` and `enable_thinking` is {str(is_on).lower()}: send"
            " one of them.",
            param="enable_thinking",
        )
    return ReasoningWish(
        effort=effort,
        budget=data.thinking_token_budget,
        is_shown=data.include_reasoning is not False,
        is_on=is_on,
        effort_param=effort_param,
    )
