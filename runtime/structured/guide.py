"""The place of one sequence in a grammar: which tokens are allowed next."""

import time
from collections.abc import Sequence
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher

from runtime.errors import InvalidRequest
from runtime.messages.request import SamplingParams
from runtime.messages.structured_output import LeftOut
from runtime.structured.reasons import one_line

Allowed: TypeAlias = npt.NDArray[np.bool_]

TOKEN_SECONDS = 0.002
MAX_DEBT_SECONDS = 0.25
"""Processor time for one token of an answer on average, and how much more an answer may have used
at any time. An ordinary grammar takes a tenth of it, and a hard one slows the steps of others."""


class Grammar(msgspec.Struct, frozen=True):
    """A compiled grammar. `matcher` has consumed no token and is only copied. All copies share its
    lexer, whose states they compute when they need them. `left_out` is what the grammar does not
    enforce."""

    matcher: LLMatcher
    vocab_size: int
    eog_token_ids: frozenset[int]
    left_out: tuple[LeftOut, ...] = ()


class Guide:
    """Computes which tokens may follow in one answer.

    `allowed` has one flag for each token of the vocabulary. `is_complete` says that the text is
    whole and nothing can follow it. `end_token_ids` are the end-of-sequence tokens and the
    request's `stop_token_ids`. Where the text may end, they are allowed as well; with `ignore_eos`,
    and before `min_tokens`, only if nothing else can follow.
    """

    def __init__(self, grammar: Grammar, params: SamplingParams) -> None:
        self._matcher = grammar.matcher.deep_copy()
        self._vocab_size = grammar.vocab_size
        self._eog_token_ids = sorted(grammar.eog_token_ids)
        stop = [token_id for token_id in params.stop_token_ids if token_id < grammar.vocab_size]
        self.end_token_ids = [*self._eog_token_ids, *stop]
        self._min_tokens = params.min_tokens
        self._ignore_eos = params.ignore_eos
        self._param = _param_of(params)
        self._num_tokens = 0
        self._debt = 0.0
        self.is_complete = False
        self.allowed: Allowed = np.zeros(0, dtype=np.bool_)

    def push(self, token_ids: Sequence[int]) -> None:
        """Consumes tokens of the answer (none at its beginning) and computes which tokens may
        follow.

        Raises InvalidRequest when that computation takes too long, for one token or for many, or
        when a token was not allowed.
        """
        began = time.thread_time()
        self._matcher.consume_tokens(list(token_ids))
        self._num_tokens += len(token_ids)
        mask = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        if self._matcher.is_error():
            raise self._refusal(one_line(self._matcher.get_error()))
        self._count(time.thread_time() - began)
        bits = np.unpackbits(mask, count=self._vocab_size, bitorder="little")
        self.allowed = bits.view(np.bool_)
        self._settle_end()

    def _count(self, seconds: float) -> None:
        """Raises InvalidRequest when the answer has used up its processor time."""
        self._debt = max(self._debt + seconds - TOKEN_SECONDS, 0.0)
        if self._debt > MAX_DEBT_SECONDS:
            raise self._refusal("finding out which tokens may follow takes too long; simplify it")

    def _refusal(self, reason: str) -> InvalidRequest:
        return InvalidRequest(
            f"`{self._param}` cannot be enforced any further after {self._num_tokens} tokens of"
            f" the answer: {reason}",
            param=self._param,
        )

    def _settle_end(self) -> None:
        self.allowed[self._eog_token_ids] = False
        self.is_complete = not self.allowed.any()
        may_end = self._num_tokens >= self._min_tokens and not self._ignore_eos
        if self._matcher.is_accepting() and (may_end or self.is_complete):
            self.allowed[self.end_token_ids] = True


def _param_of(params: SamplingParams) -> str:
    assert params.structured_output is not None, "a guide without a grammar: this is a bug"
    return params.structured_output.source
