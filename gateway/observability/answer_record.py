"""What is known of one answer: for metrics, the access log and traces."""

from collections.abc import Sequence
from typing import Literal

Outcome = Literal["", "completed", "aborted", "failed"]


class AnswerRecord:
    """Filled in while the answer is made. Times are on the monotonic clock, 0 until they have come.

    `engine_started` is when the engine let the first choice in, `first_token` when the gateway had
    the first token, `ended` when the answer was complete or given up. `outcome` is empty until
    then. Tokens are those of all choices; prompts count from the first sign of their answer.
    """

    __slots__ = (
        *("cached_tokens", "completion_tokens", "ended", "engine_started", "finish_reasons"),
        *("first_token", "num_choices", "outcome", "prompt_tokens"),
    )

    def __init__(self, num_choices: int) -> None:
        self.num_choices = num_choices
        self.engine_started = 0.0
        self.first_token = 0.0
        self.ended = 0.0
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.completion_tokens = 0
        self.finish_reasons: Sequence[str] = ()
        self.outcome: Outcome = ""

    def decode_seconds(self) -> float:
        """From the first token to the end."""
        return self.ended - self.first_token if self.first_token else 0.0

    def seconds_per_output_token(self) -> float | None:
        """Mean time of a token after the first one of its choice; None when there was none."""
        num_later = self.completion_tokens / self.num_choices - 1
        if not self.first_token or num_later <= 0:
            return None
        return self.decode_seconds() / num_later
