"""A logits processor for parameters that the package's samplers ignore or apply differently.

It runs in the package's worker process, which imports this module and gets each request's rules
pickled (docs/tensorrt-llm-contract.md, 4.5). The arithmetic is written once for torch and numpy: it
uses only operations with the same names in both.
"""

import sys
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from tensorrt_llm.sampling_params import LogitsProcessor

from runtime.messages.request import Thinking
from runtime.text.thinking import ThinkingTracker

UNSPELLED = b"\0"
"""Placeholder for a token that is not part of any tag."""


class Rules(Struct, frozen=True, kw_only=True):
    """Changes to the logits, in vLLM's order: ban `end_token_ids` before `min_tokens`, add
    `logit_bias`, apply the penalties. `repetition_penalty` 1 is off. Last, when the budget of
    `thinking` is used up, all tokens but one are banned; `spelled` maps the tokens in its tags to
    their bytes.

    `prompt_token_ids` is the prompt as the client sent it, `output_token_ids` what was generated
    before this submission: penalties are the same as in a single submission.
    """

    prompt_token_ids: list[int]
    output_token_ids: list[int]
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: dict[int, float] = {}
    min_tokens: int = 0
    end_token_ids: list[int] = []
    thinking: Thinking | None = None
    spelled: dict[int, bytes] = {}


class TokenRules(LogitsProcessor):  # type: ignore[misc]  # the package is not there for mypy
    """Applies `Rules` to one request, one call for each token."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._state: _State | None = None

    def __call__(
        self,
        req_id: int,
        logits: Any,
        token_ids: list[list[int]],
        stream_ptr: int | None,
        client_id: int | None,
    ) -> None:
        """Edits `logits`, of shape [..., vocabulary], in place. `token_ids` holds one list, as
        there is no beam search."""
        with _on_stream(stream_ptr):
            if self._state is None:
                self._state = _State(self._rules, logits, len(token_ids[0]))
            self._state.apply(logits, token_ids[0])


class _State:
    """Arrays on the logits' device, made at the first call and kept up to date: a step costs the
    same however long the answer is. `num_tokens` is the length of the first call's list."""

    def __init__(self, rules: Rules, logits: Any, num_tokens: int) -> None:
        num_before = len(rules.prompt_token_ids) + len(rules.output_token_ids)
        # As far as is known, the list includes the prompt. A list that is shorter than what was
        # submitted can only be the answer (docs/tensorrt-llm-contract.md, 4.5).
        self._num_before = num_before if num_tokens >= num_before else 0
        self._num_seen = self._num_before
        self._num_output_tokens = len(rules.output_token_ids)
        self._rules = rules
        self._thinking = None if rules.thinking is None else _Thinking(rules)
        self._counted = set(rules.output_token_ids)
        vocab_size = int(logits.shape[-1])
        self._bias = _on_device(_bias(rules, vocab_size), logits)
        self._penalty = _on_device(_penalty(rules, vocab_size), logits)
        self._repeated = _on_device(_repeated(rules, vocab_size), logits)

    def apply(self, logits: Any, token_ids: Sequence[int]) -> None:
        self._take_in(token_ids[self._num_seen :])
        self._num_seen = max(self._num_seen, len(token_ids))
        namespace, array = _array_of(logits)
        if self._rules.end_token_ids and self._num_generated < self._rules.min_tokens:
            array[..., self._rules.end_token_ids] = -np.inf
        if self._bias is not None:
            array += self._bias
        if self._repeated is not None:
            factor = self._rules.repetition_penalty
            punished = namespace.where(array > 0, array / factor, array * factor)
            array[...] = namespace.where(self._repeated, punished, array)
        if self._penalty is not None:
            array -= self._penalty
        forced = None if self._thinking is None else self._thinking.force()
        if forced is not None:
            array[...] = -np.inf
            array[..., forced] = 0.0

    @property
    def _num_generated(self) -> int:
        return self._num_output_tokens + self._num_seen - self._num_before

    def _take_in(self, token_ids: Sequence[int]) -> None:
        for token in token_ids:
            if self._penalty is not None:
                first = 0.0 if token in self._counted else self._rules.presence_penalty
                self._penalty[token] += self._rules.frequency_penalty + first
                self._counted.add(token)
            if self._repeated is not None:
                self._repeated[token] = True
            if self._thinking is not None:
                self._thinking.take_in(token)


class _Thinking:
    """Forces the end of thinking when its budget is used up. The package may show a forced token
    one step late, so `_ahead` keeps the forced tokens that it has not shown: none is forced
    twice."""

    def __init__(self, rules: Rules) -> None:
        assert rules.thinking is not None, "nothing to end: this is a bug"
        spelled = rules.spelled
        self._tracker = ThinkingTracker(
            rules.thinking, lambda token_id: spelled.get(token_id, UNSPELLED)
        )
        self._ahead: deque[int] = deque()
        self._tracker.push_all(rules.output_token_ids)

    def force(self) -> int | None:
        """The only token that may come now; None when there is a choice."""
        token_id = self._tracker.forced_token_id
        if token_id is not None:
            self._tracker.push(token_id)
            self._ahead.append(token_id)
        return token_id

    def take_in(self, token_id: int) -> None:
        """Takes a token that the package shows. While a forced token has not been shown, other
        tokens are ignored: they came before it."""
        if not self._ahead:
            self._tracker.push(token_id)
        elif token_id == self._ahead[0]:
            self._ahead.popleft()


def _bias(rules: Rules, vocab_size: int) -> npt.NDArray[np.float32] | None:
    if not rules.logit_bias:
        return None
    bias = np.zeros(vocab_size, dtype=np.float32)
    bias[list(rules.logit_bias)] = list(rules.logit_bias.values())
    return bias


def _penalty(rules: Rules, vocab_size: int) -> npt.NDArray[np.float32] | None:
    if not rules.presence_penalty and not rules.frequency_penalty:
        return None
    counts = np.bincount(rules.output_token_ids, minlength=vocab_size).astype(np.float32)
    presence = np.float32(rules.presence_penalty) * (counts > 0)
    return np.float32(rules.frequency_penalty) * counts + presence


def _repeated(rules: Rules, vocab_size: int) -> npt.NDArray[np.bool_] | None:
    if rules.repetition_penalty == 1.0:
        return None
    repeated = np.zeros(vocab_size, dtype=np.bool_)
    repeated[rules.prompt_token_ids + rules.output_token_ids] = True
    return repeated


def _torch_of(tensor: Any) -> Any:
    """torch, if this is a torch tensor. A caller that holds a tensor has already imported torch."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and isinstance(tensor, torch.Tensor) else None


def _array_of(logits: Any) -> tuple[Any, Any]:
    """The library that computes with these logits, and the logits as it knows them."""
    torch = _torch_of(logits)
    return (np, logits.numpy()) if torch is None else (torch, logits)


def _on_device(array: npt.NDArray[Any] | None, logits: Any) -> Any:
    torch = _torch_of(logits)
    if array is None or torch is None:
        return array
    return torch.from_numpy(array).to(logits.device)


def _on_stream(stream_ptr: int | None) -> AbstractContextManager[Any]:
    """A context for work on the stream that computes the logits; work on another would race with
    it."""
    if stream_ptr is None:
        return nullcontext()
    torch = sys.modules["torch"]
    stream: AbstractContextManager[Any] = torch.cuda.stream(torch.cuda.ExternalStream(stream_ptr))
    return stream
