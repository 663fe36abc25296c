"""How many prompt tokens a step may carry: measured, not guessed."""

from collections.abc import Sequence
from typing import NamedTuple

MIN_PROMPT_TOKENS = 2
"""A prompt always goes on, however slow the machine."""

ROW_MULTIPLE = 4
"""llama.cpp multiplies rows four at a time: the fifth row of a step costs as much as the next three
together (docs/performance.md)."""

SCORED_WEIGHT = 8.0
"""First guess of how many times longer a prompt token takes that is scored: it needs a row of
logits, and its log-probability."""

SMOOTHING = 0.3
"""Weight of the newest measurement."""

STRETCH = 1.0
"""Intended extra time of a step for each prompt that is being read, as a share of the step's time
without prompts. Beside a single long prompt, gaps between tokens double; although steps vary, they
stay below three times their length without prompts."""

MIN_STRETCH = 1.3
"""If decoding alone takes longer than the target, prompts still get this much more time."""

RESTORING_SHARE = 0.5
"""Of the time of a step without prompts, how much more loading copies from the disk may take."""

GUESSED_TOKEN_SECONDS = 0.01

UNDISTURBED_STEPS = 12.0
"""While no sequence decodes, a step may take this many times the target. Large chunks are read
faster, but the engine notices new and departing clients only between steps."""


class Turn(NamedTuple):
    """How many sequences of an adapter decode, and how many read their prompts."""

    num_decoding: int
    num_reading: int


class Pace:
    """Keeps steps near a target time. Times in seconds. Where sequences with other adapters wait
    for their turn, the target holds for all turns together.

    It learns two things from the steps that run: the time of a step that only decodes, for each
    number of sequences, and the time that a prompt token adds.
    """

    def __init__(self, max_step_seconds: float) -> None:
        self._max_step_seconds = max_step_seconds
        self._decode_seconds: dict[int, float] = {}
        self._prompt_token_seconds = 0.0
        self._scored_weight = SCORED_WEIGHT

    @property
    def scored_weight(self) -> float:
        """How many prompt tokens take as long as one that is scored."""
        return self._scored_weight

    @property
    def prompt_token_seconds(self) -> float:
        """How long computing a prompt token takes, or a guess while that is not known."""
        return self._prompt_token_seconds or GUESSED_TOKEN_SECONDS

    def restoring_seconds(self, num_decoding: int) -> float:
        """How long the next step may load copies, beside `num_decoding` sequences that stream."""
        if not num_decoding:
            return self._max_step_seconds
        return min(RESTORING_SHARE * self._decode_step(num_decoding), self._max_step_seconds)

    def num_prompt_tokens(
        self, num_decoding: int, num_reading: int, waiting: Sequence[Turn] = ()
    ) -> int:
        """Prompt tokens that the next step may compute for `num_reading` sequences, beside
        `num_decoding` others that stream; the turns of `waiting` come next."""
        num_tokens = self._affordable(Turn(num_decoding, num_reading), waiting)
        return num_tokens + -(num_decoding + num_tokens) % ROW_MULTIPLE

    def observe(
        self, num_decoding: int, num_prompt_tokens: int, seconds: float, *, num_scored: int = 0
    ) -> None:
        """Learn from a step that has run; `num_scored` of the prompt tokens were scored."""
        if not num_prompt_tokens:
            old = self._decode_seconds.get(num_decoding, 0.0)
            self._decode_seconds[num_decoding] = _smooth(old, seconds)
            return
        share = seconds - (self._decode_step(num_decoding) if num_decoding else 0.0)
        share = max(share, 0.1 * seconds)
        if num_scored:
            self._observe_scored(num_scored, num_prompt_tokens - num_scored, share)
            return
        per_token = share / num_prompt_tokens
        self._prompt_token_seconds = _smooth(self._prompt_token_seconds, per_token)

    def _observe_scored(self, num_scored: int, num_others: int, seconds: float) -> None:
        """While nothing is known of plain prompt tokens, the guessed weight tells their time."""
        if not self._prompt_token_seconds:
            self._prompt_token_seconds = seconds / (num_others + num_scored * self._scored_weight)
        weight = (seconds / self._prompt_token_seconds - num_others) / num_scored
        self._scored_weight = _smooth(self._scored_weight, max(weight, 1.0))

    def _affordable(self, turn: Turn, waiting: Sequence[Turn]) -> int:
        num_decoding = turn.num_decoding + sum(each.num_decoding for each in waiting)
        num_reading = turn.num_reading + sum(each.num_reading for each in waiting)
        if not num_decoding:
            return self._fitting(UNDISTURBED_STEPS * self._max_step_seconds, first_guess=1 << 30)
        decode = self._decode_turns(turn, waiting)
        if not decode:
            return self._fitting(self._max_step_seconds, first_guess=MIN_PROMPT_TOKENS)
        if num_reading > num_decoding:  # if many sequences wait for a few, the few yield
            target = self._max_step_seconds * min(num_reading / num_decoding, UNDISTURBED_STEPS)
        else:
            target = min(self._max_step_seconds, (1 + STRETCH * num_reading) * decode)
        target = max(target, MIN_STRETCH * decode)
        share = turn.num_reading / num_reading if waiting and num_reading else 1.0
        return self._fitting(share * (target - decode), first_guess=MIN_PROMPT_TOKENS)

    def _fitting(self, seconds: float, *, first_guess: int) -> int:
        if not self._prompt_token_seconds:
            return first_guess
        return max(MIN_PROMPT_TOKENS, int(seconds / self._prompt_token_seconds))

    def _decode_turns(self, turn: Turn, waiting: Sequence[Turn]) -> float:
        """Seconds of all turns without their prompts. A turn that only reads takes as long as one
        sequence that decodes, because the weights are read for it."""
        if not waiting:
            return self._decode_step(turn.num_decoding)
        return sum(self._decode_step(max(each.num_decoding, 1)) for each in (turn, *waiting))

    def _decode_step(self, num_decoding: int) -> float:
        """Seconds of a step without prompts; 0 when none has run yet. Based on the measurement for
        the nearest number of sequences; each further sequence costs as much as a prompt token."""
        if not self._decode_seconds:
            return 0.0
        nearest = min(self._decode_seconds, key=lambda number: abs(number - num_decoding))
        measured = self._decode_seconds[nearest]
        return max(measured + (num_decoding - nearest) * self._prompt_token_seconds, 0.1 * measured)


def _smooth(old: float, new: float) -> float:
    return new if not old else old + SMOOTHING * (new - old)
