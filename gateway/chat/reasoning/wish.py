"""What a client asks of the reasoning, in no API's words."""

from typing import Literal

from msgspec import Struct

ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class ReasoningWish(Struct, frozen=True, kw_only=True):
    """The client's wishes for the reasoning before an answer.

    `effort` and `budget` (in tokens) are None if the client sets none. `is_shown` says whether the
    client gets the text of the reasoning. `is_on` turns reasoning on or off; None leaves that to
    the effort, or else to the model. `effort_param` is the request parameter of the effort,
    which errors name.
    """

    effort: ReasoningEffort | None = None
    budget: int | None = None
    is_shown: bool = True
    is_on: bool | None = None
    effort_param: str = "reasoning_effort"
