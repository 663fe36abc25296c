"""The "model": the next token as a pure function of all tokens before it.

An answer therefore depends on the prompt and on the position, and a stream that mixes up two
requests, loses a token or repeats one is found out. An answer that is cut and submitted again, as
prompt with the tokens so far, goes on as if nothing had happened.
"""

import math
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np

from .plan import Plan

_MASK = (1 << 61) - 1
CANDIDATE_LOGITS = (10.0, 9.0, 8.5, 8.0, 7.5, 7.0, 6.5, 6.0)
"""Logits of the token that the model prefers and of seven others; the rest lies near -10."""

CERTAIN_LOGIT = 50.0


class Cursor:
    """A place in a text: what the model has read, as one number, and how much of `say` the text
    ends with."""

    __slots__ = ("num_said", "said", "state")

    def __init__(self) -> None:
        self.state = 1
        self.said = 0
        self.num_said = 0


class TokenMaker:
    """Makes tokens below `vocab_size`; `eos_token_id` is said where the plan wants an end."""

    def __init__(self, plan: Plan, vocab_size: int, eos_token_id: int | None) -> None:
        self.vocab_size = vocab_size
        self.eos_token_id = eos_token_id
        self._say = plan.say
        self._script = plan.script
        self._eos_after = plan.eos_after
        self._eos_at = plan.eos_at
        self._certain = plan.certain
        self._fallback = _borders(plan.say)
        for token in (*plan.say, *plan.script):
            if not 0 <= token < vocab_size:
                raise ValueError(f"plan: token {token} is outside the vocabulary of {vocab_size}")

    def read(self, token_ids: Iterable[int]) -> Cursor:
        """Read a prompt."""
        cursor = Cursor()
        for token in token_ids:
            self._push(cursor, token)
        return cursor

    def push(self, cursor: Cursor, token: int) -> None:
        """Read a token of the answer."""
        cursor.num_said += 1
        self._push(cursor, token)

    def prefers(self, cursor: Cursor, num_tokens: int) -> int:
        """The token of the highest logit; `num_tokens` is the length of prompt and answer."""
        if self.eos_token_id is not None and self._ends(cursor, num_tokens):
            return self.eos_token_id
        if self._say and cursor.said < len(self._say):
            return self._say[cursor.said]
        return self._pick(cursor.state)

    def answer(self, prompt: Iterable[int], num_tokens: int) -> list[int]:
        """The greedy answer of at most so many tokens, the end token with it: for a test to
        compare with."""
        text = list(prompt)
        cursor, start = self.read(text), len(text)
        while len(text) < start + num_tokens and self.eos_token_id not in text[start:]:
            text.append(self.prefers(cursor, len(text)))
            self.push(cursor, text[-1])
        return text[start:]

    def candidates(self, cursor: Cursor, num_tokens: int) -> dict[int, float]:
        """The few tokens that are likely, with their logits, the preferred one first."""
        logits: dict[int, float] = {}
        token = self.prefers(cursor, num_tokens)
        if self._certain:
            return {token: CERTAIN_LOGIT}
        for step, logit in enumerate(CANDIDATE_LOGITS):
            logits.setdefault(token, logit)
            token = self._pick(cursor.state * 31 + step + 1)
        return logits

    def logits(self, candidates: dict[int, float]) -> np.ndarray:
        """All logits, float32 of shape [vocab_size]; a copy that the caller may change."""
        logits = self._floor.copy()
        logits[list(candidates)] = list(candidates.values())
        return logits

    def log_normalizer(self, candidates: dict[int, float]) -> float:
        """The logarithm of the sum of exp(logit) over the vocabulary."""
        floor = self._floor_sum - sum(math.exp(float(self._floor[token])) for token in candidates)
        return math.log(max(floor, 0.0) + sum(map(math.exp, candidates.values())))

    def _push(self, cursor: Cursor, token: int) -> None:
        cursor.state = (cursor.state * 6364136223846793005 + token + 1442695040888963407) & _MASK
        if self._say:
            cursor.said = self._match(cursor.said, token)

    def _match(self, said: int, token: int) -> int:
        while said and (said == len(self._say) or self._say[said] != token):
            said = self._fallback[said - 1]
        return said + 1 if self._say[said] == token else said

    def _ends(self, cursor: Cursor, num_tokens: int) -> bool:
        if self._say and cursor.said == len(self._say):
            return True
        if self._eos_after is not None and cursor.num_said >= self._eos_after:
            return True
        return self._eos_at is not None and num_tokens >= self._eos_at

    def _pick(self, state: int) -> int:
        number = ((state & _MASK) * 0x9E3779B97F4A7C15 >> 29) & 0xFFFFFFFF
        if self._script:
            return self._script[number % len(self._script)]
        token = number % self.vocab_size
        return token if token != self.eos_token_id else (token + 1) % self.vocab_size

    @cached_property
    def _floor(self) -> np.ndarray:
        return (-10.0 - np.arange(self.vocab_size) % 97 / 97).astype(np.float32)

    @cached_property
    def _floor_sum(self) -> float:
        return float(np.exp(self._floor, dtype=np.float64).sum())


def _borders(word: Sequence[int]) -> list[int]:
    """For each prefix of `word`, the length of its longest proper prefix that is also its end
    (Knuth, Morris and Pratt)."""
    borders = [0] * len(word)
    length = 0
    for end in range(1, len(word)):
        while length and word[end] != word[length]:
            length = borders[length - 1]
        length += word[end] == word[length]
        borders[end] = length
    return borders
