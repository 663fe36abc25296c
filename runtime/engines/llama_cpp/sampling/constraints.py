"""Which tokens one answer may continue with, whatever its logits: thinking, then structure."""

from functools import partial

import numpy as np

from runtime.messages.request import Request
from runtime.structured.guide import Allowed, Guide
from runtime.text.detokenizer import spell
from runtime.text.thinking import ThinkingTracker
from runtime.tokenizers.tokenizer import Tokenizer


class Constraints:
    """Joins an answer's guide with its thinking. It stands where `output_token_ids` end.

    The guide sees the answer proper alone. Where an answer may begin with thinking, the token for
    that is allowed beside those of the guide; if the tag is several tokens, a guided answer does
    not think unless the prompt began to. Nothing ends a guided answer that is still thinking.
    """

    def __init__(self, request: Request, guide: Guide | None, tokenizer: Tokenizer) -> None:
        self._guide = guide
        self._tracker = _tracker(request, tokenizer)
        self._start_token_id = request.thinking.start_token_id if request.thinking else None
        self._vocab_size = tokenizer.vocab_size
        self._settle()
        if guide is not None:
            guide.push(())
        for token_id in request.output_token_ids:
            self.push(token_id)

    @property
    def forced_token_id(self) -> int | None:
        """The only token that may come; None when there is a choice."""
        return None if self._tracker is None else self._tracker.forced_token_id

    @property
    def allowed(self) -> Allowed | None:
        """A flag for each token of the vocabulary; None when all may come."""
        guide, tracker = self._guide, self._tracker
        if guide is None:
            return None
        if tracker is None:
            return guide.allowed
        if tracker.may_start:
            allowed = guide.allowed.copy()
            allowed[self._start_token_id] = True
            return allowed
        thoughts = np.ones(self._vocab_size, dtype=np.bool_)
        thoughts[guide.end_token_ids] = False
        return thoughts

    @property
    def is_complete(self) -> bool:
        """Whether the text is whole and nothing can follow it."""
        return self._guide is not None and self._guide.is_complete

    def push(self, token_id: int) -> None:
        """A token has been chosen. Raises InvalidRequest when the guide cannot go on."""
        tracker, guide = self._tracker, self._guide
        goes_straight = tracker is not None and tracker.may_start and guide is not None
        if goes_straight and token_id != self._start_token_id:
            self._tracker = tracker = None
        if tracker is not None:
            tracker.push(token_id)
            self._settle()
        elif guide is not None and not guide.is_complete:
            guide.push((token_id,))

    def _settle(self) -> None:
        """Forget the thinking when it is over, or cannot begin beside a guide."""
        tracker = self._tracker
        if tracker is None:
            return
        cannot_start = tracker.may_start and self._start_token_id is None
        is_over = tracker.is_answering and tracker.forced_token_id is None
        if is_over or (cannot_start and self._guide is not None):
            self._tracker = None


def _tracker(request: Request, tokenizer: Tokenizer) -> ThinkingTracker | None:
    wanted = request.sampling.structured_output
    holds_calls = wanted is not None and wanted.structural_tag is not None
    if request.thinking is None or (holds_calls and request.thinking.repeats):
        return None  # calls on channels come before the answer proper: their guide sees all of it
    return ThinkingTracker(request.thinking, partial(spell, tokenizer))
