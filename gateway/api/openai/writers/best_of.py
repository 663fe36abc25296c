"""`best_of`: more answers are generated than shown, and the likeliest are kept."""

from collections.abc import Sequence

import msgspec

from gateway.generation.events import Answer, Choice, Event
from gateway.generation.writer import AnswerWriter


class BestOf(AnswerWriter):
    """A writer that shows `n` of the `best_of` choices of each prompt, the likeliest first.

    The likeliest choice has the highest mean log-probability of its tokens, as with OpenAI. The
    usage counts all generated tokens.
    """

    def __init__(self, writer: AnswerWriter, *, n: int, best_of: int) -> None:
        self._writer = writer
        self._n = n
        self._best_of = best_of

    def frames(self, events: Sequence[Event]) -> bytes:
        raise AssertionError("best_of needs whole answers: this is a bug")

    def whole(self, answer: Answer) -> bytes:
        """The JSON body with the choices that are kept, numbered anew."""
        kept: list[Choice] = []
        for first in range(0, len(answer.choices), self._best_of):
            candidates = answer.choices[first : first + self._best_of]
            kept += sorted(candidates, key=mean_logprob, reverse=True)[: self._n]
        replace = msgspec.structs.replace
        choices = [replace(choice, index=index) for index, choice in enumerate(kept)]
        return self._writer.whole(Answer(choices, answer.usage))


def mean_logprob(choice: Choice) -> float:
    """The mean log-probability of the generated tokens."""
    reported = [entry.logprob for entry in choice.logprobs[choice.num_echoed_tokens :] if entry]
    return sum(reported) / len(reported) if reported else 0.0
