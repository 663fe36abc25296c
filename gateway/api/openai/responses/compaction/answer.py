"""The answer of POST /v1/responses/compact."""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from gateway.api.openai.responses.answers import OutputCompaction, ResponseUsage, usage_of
from gateway.api.openai.responses.compaction.content import Summary, written
from gateway.generation.events import Answer, Event
from gateway.generation.writer import AnswerWriter, Head, encode
from runtime.errors import EngineError


class UserText(Struct, frozen=True, tag_field="type", tag="input_text"):
    text: str


class UserMessage(Struct, frozen=True, tag_field="type", tag="message", kw_only=True):
    """A message of the user, as it was sent."""

    id: str
    status: Literal["completed"] = "completed"
    role: Literal["user"] = "user"
    content: list[UserText]


class CompactedResponse(Struct, frozen=True, kw_only=True):
    """What stands for a conversation: the user's last messages, and the summary of everything.
    `usage` is what it took."""

    id: str
    object: Literal["response.compaction"] = "response.compaction"
    created_at: int
    output: list[UserMessage | OutputCompaction]
    usage: ResponseUsage


class CompactionWriter(AnswerWriter):
    """Writes a summary as an item behind `messages`."""

    def __init__(self, head: Head, item_id: str, messages: Sequence[UserMessage]) -> None:
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
        summary = Summary(text, num_kept=len(self._messages), comes_last=True)
        item = OutputCompaction(id=self._item_id, encrypted_content=written(summary))
        return encode(
            CompactedResponse(
                id=self._head.id,
                created_at=self._head.created,
                output=[*self._messages, item],
                usage=usage_of(answer.usage),
            )
        )
