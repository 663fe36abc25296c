"""How many prompt tokens a step may carry while others are streaming: measured, not guessed."""

MIN_PROMPT_TOKENS = 8
"""A prompt always goes on, however slow the machine."""

SMOOTHING = 0.3
"""Weight of the newest measurement."""


class Pace:
    """Keeps steps near a target time. Times in seconds.

    While nobody is streaming a step may be as large as the batch allows. Otherwise the prompt's
    share is what fits into the target after the time that the streaming sequences alone take.
    """

    def __init__(self, max_step_seconds: float) -> None:
        self._max_step_seconds = max_step_seconds
        self._decode_seconds = 0.0
        self._prompt_token_seconds = 0.0

    def num_prompt_tokens(self, num_decoding: int) -> int:
        """Prompt tokens that the next step may compute beside `num_decoding` sequences."""
        unlimited = 1 << 30
        if not num_decoding or not self._prompt_token_seconds:
            return unlimited if not num_decoding else MIN_PROMPT_TOKENS
        left = self._max_step_seconds - self._decode_seconds
        return max(MIN_PROMPT_TOKENS, int(left / self._prompt_token_seconds))

    def observe(self, num_decoding: int, num_prompt_tokens: int, seconds: float) -> None:
        """Learn from a step that has run."""
        if not num_prompt_tokens:
            self._decode_seconds = _smooth(self._decode_seconds, seconds)
            return
        share = seconds - (self._decode_seconds if num_decoding else 0.0)
        per_token = max(share, 0.1 * seconds) / num_prompt_tokens
        self._prompt_token_seconds = _smooth(self._prompt_token_seconds, per_token)


def _smooth(old: float, new: float) -> float:
    return new if not old else old + SMOOTHING * (new - old)
