"""The record of one answer, for metrics, the access log and traces."""

from collections.abc import Callable, Sequence
from typing import Literal

Outcome = Literal["", "completed", "aborted", "failed"]


class AnswerRecord:
    """Filled in while the answer is made. Times are on the monotonic clock, 0 until they are known.

    `engine_started` is when the engine admitted the first choice, `first_token` when the gateway
    had the first token, `ended` when the answer was complete or given up. `outcome` is empty until
    then. Token counts cover all choices; a prompt counts from the first sign of its answer.
    `on_end` is called once, when the outcome and the counts are known.
    """

    __slots__ = (
        *("cached_tokens", "completion_tokens", "ended", "engine_started", "finish_reasons"),
        *("first_token", "num_choices", "on_end", "outcome", "prompt_tokens", "reasoning_tokens"),
    )

    def __init__(self, num_choices: int) -> None:
        self.num_choices = num_choices
        self.engine_started = 0.0
        self.first_token = 0.0
        self.ended = 0.0
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.completion_tokens = 0
        self.reasoning_tokens = 0
        self.finish_reasons: Sequence[str] = ()
        self.outcome: Outcome = ""
        self.on_end: Callable[[AnswerRecord], None] | None = None

    def decode_seconds(self) -> float:
        """Seconds from the first token to the end."""
        return self.ended - self.first_token if self.first_token else 0.0

    def seconds_per_output_token(self) -> float | None:
        """Mean time of a token after the first one of its choice; None without such tokens."""
        num_later = self.completion_tokens / self.num_choices - 1
        if not self.first_token or num_later <= 0:
            return None
        return self.decode_seconds() / num_later
