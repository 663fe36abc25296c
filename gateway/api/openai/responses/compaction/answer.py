"""The answer of POST /v1/responses/compact."""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from gateway.api.openai.responses.answers import OutputCompaction, ResponseUsage, usage_of
from gateway.api.openai.responses.compaction.content import Summary, written
from gateway.generation.events import Answer, Event
from gateway.generation.writer import AnswerWriter, Head, encode
from runtime.errors import EngineError


class CompactedResponse(Struct, frozen=True, kw_only=True):
    """What stands for a conversation: the item that has its summary. `usage` is what it took."""

    id: str
    object: Literal["response.compaction"] = "response.compaction"
    created_at: int
    output: list[OutputCompaction]
    usage: ResponseUsage


class CompactionWriter(AnswerWriter):
    """Writes a summary as an item, which has the user's last `messages` too."""

    def __init__(self, head: Head, item_id: str, messages: tuple[str, ...]) -> None:
        self._head = head
        self._item_id = item_id
        self._messages = messages

    def frames(self, events: Sequence[Event]) -> bytes:
        raise AssertionError("a compaction is no stream")

    def whole(self, answer: Answer) -> bytes:
        """Raises EngineError if the model has written nothing."""
        text = answer.choices[0].text.strip()
        if not text:
            raise EngineError("The model has written no summary. Send the request again, or less.")
        summary = Summary(text, messages=self._messages)
        item = OutputCompaction(id=self._item_id, encrypted_content=written(summary))
        return encode(
            CompactedResponse(
                id=self._head.id,
                created_at=self._head.created,
                output=[item],
                usage=usage_of(answer.usage),
            )
        )
