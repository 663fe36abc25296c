"""Tracks, token by token, whether an answer is still thinking.

The state depends on the tokens of the answer alone: pushing the same tokens in another process
leads to the same state.
"""

from collections.abc import Callable, Sequence
from enum import Enum, auto

from runtime.messages.request import Thinking


class _Phase(Enum):
    BEFORE = auto()
    """Nothing but blanks so far, or the beginning of the tag that opens the block."""
    INSIDE = auto()
    BETWEEN = auto()
    """Outside of blocks, before the answer proper; only if blocks repeat."""
    ANSWERING = auto()


class ThinkingTracker:
    """Reads an answer's tokens and says whether they are thinking.

    `spell` gives the bytes of a token; for control tokens those of their name. Tags are found in
    these bytes, however a tag is cut into tokens. `num_reasoning_tokens` counts the tokens between
    the tags; a token with both the end of a thought and the start of a tag counts.
    """

    def __init__(self, thinking: Thinking, spell: Callable[[int], bytes]) -> None:
        self._spell = spell
        self._start, self._end = thinking.start.encode(), thinking.end.encode()
        self._answer = thinking.answer.encode()
        self._repeats = thinking.repeats
        self._budget = thinking.budget
        self._closing = thinking.closing_token_ids
        self._num_closed: int | None = None
        self._tail = b""
        self._token_starts: list[int] = []
        self.num_reasoning_tokens = 0
        self._phase = _Phase.BETWEEN if thinking.repeats else _Phase.BEFORE
        if thinking.starts_inside:
            self._phase = _Phase.INSIDE
        self._begin_closing()

    @property
    def is_thinking(self) -> bool:
        """Whether the next token may be a part of a thought."""
        return self._phase is _Phase.INSIDE

    @property
    def may_start(self) -> bool:
        """Whether the answer has no text but blanks yet, so that it may begin with a block of
        thinking."""
        return self._phase is _Phase.BEFORE and not self._tail

    @property
    def is_answering(self) -> bool:
        """Whether the answer proper has begun: no more thinking comes."""
        return self._phase is _Phase.ANSWERING

    @property
    def forced_token_id(self) -> int | None:
        """The token that must come next because the budget is used up; None if there is a
        choice."""
        return None if self._num_closed is None else self._closing[self._num_closed]

    def push(self, token_id: int) -> None:
        """Reads the next token of the answer."""
        if self.is_answering and self._num_closed is None:
            return
        if self.is_thinking:
            self._token_starts.append(len(self._tail))
            self.num_reasoning_tokens += 1
        self._tail += self._spell(token_id)
        while self._advance():
            pass
        self._close(token_id)

    def push_all(self, token_ids: Sequence[int]) -> None:
        """Reads the next tokens of the answer."""
        for token_id in token_ids:
            self.push(token_id)

    def _advance(self) -> bool:
        """Looks for the next tag, and changes the phase if it is complete. Returns whether the
        phase has changed: then the rest may have another tag."""
        match self._phase:
            case _Phase.BEFORE:
                return self._open()
            case _Phase.INSIDE:
                return self._leave()
            case _Phase.BETWEEN:
                return self._go_on()
            case _Phase.ANSWERING:
                self._tail = b""
                return False

    def _open(self) -> bool:
        text = self._tail = self._tail.lstrip()
        if text.startswith(self._start):
            return self._enter(_Phase.INSIDE, len(self._start))
        return not self._start.startswith(text) and self._enter(_Phase.ANSWERING, 0)

    def _leave(self) -> bool:
        place = self._tail.find(self._end)
        if place < 0:
            self._forget(len(self._end))
            return False
        self.num_reasoning_tokens -= sum(start >= place for start in self._token_starts)
        self._token_starts = []
        after = _Phase.BETWEEN if self._repeats else _Phase.ANSWERING
        return self._enter(after, place + len(self._end))

    def _go_on(self) -> bool:
        found = [
            (place, tag, phase)
            for tag, phase in ((self._start, _Phase.INSIDE), (self._answer, _Phase.ANSWERING))
            if (place := self._tail.find(tag)) >= 0
        ]
        if not found:
            self._forget(max(len(self._start), len(self._answer)))
            return False
        place, tag, phase = min(found, key=lambda each: each[0])
        return self._enter(phase, place + len(tag))

    def _enter(self, phase: _Phase, end: int) -> bool:
        self._phase = phase
        self._tail = self._tail[end:]
        return True

    def _forget(self, tag_length: int) -> None:
        """Keeps only what may be the beginning of a tag."""
        num_gone = max(len(self._tail) - tag_length + 1, 0)
        self._tail = self._tail[num_gone:]
        starts = (start - num_gone for start in self._token_starts)
        self._token_starts = [start for start in starts if start >= 0]

    def _close(self, token_id: int) -> None:
        """Continues with the closing tokens after `token_id`, or begins with them."""
        if self._num_closed is not None:
            is_expected = token_id == self._closing[self._num_closed]
            self._num_closed = self._num_closed + 1 if is_expected else None
            if self._num_closed == len(self._closing):
                self._num_closed = None
        if self._num_closed is None:
            self._begin_closing()

    def _begin_closing(self) -> None:
        used_up = self._budget is not None and self.num_reasoning_tokens >= self._budget
        if used_up and self.is_thinking and self._closing:
            self._num_closed = 0
