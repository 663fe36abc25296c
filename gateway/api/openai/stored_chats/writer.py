"""A writer whose answers are stored. Pure, but for the store."""

from collections.abc import Callable, Sequence

from gateway.api.openai.stored_chats.records import Keeper
from gateway.errors import ErrorBody
from gateway.generation.events import Answer, AnswerEnd, Event
from gateway.generation.writer import AnswerWriter, Head


class KeptAnswer(AnswerWriter):
    """Writes what another writer writes. An answer that is complete is stored; one that its client
    leaves, or that an error ends, is not."""

    def __init__(
        self, writer: AnswerWriter, head: Head, result: Callable[[], Answer], keeper: Keeper
    ) -> None:
        """`result` is the answer when it is complete."""
        self._writer = writer
        self._head = head
        self._result = result
        self._keeper = keeper

    def frames(self, events: Sequence[Event]) -> bytes:
        if events and isinstance(events[-1], AnswerEnd):
            self._keeper.keep_unwritten(self._head, self._result(), self._writer.whole)
        return self._writer.frames(events)

    def take(self, events: Sequence[Event]) -> None:
        self._writer.take(events)

    def whole(self, answer: Answer) -> bytes:
        body = self._writer.whole(answer)
        self._keeper.keep(self._head, body)
        return body

    @property
    def end(self) -> bytes:
        return self._writer.end

    def failed(self, error: ErrorBody) -> bytes:
        return self._writer.failed(error)
