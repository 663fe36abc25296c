"""The items of a response in progress, each with its events and its present state. Pure.

`numbers` counts the events of the stream that the items belong to.
"""

import secrets
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from msgspec import Struct

from gateway.api.openai.responses.answers import (
    ArgumentsDelta,
    ArgumentsDone,
    ContentPartAdded,
    ContentPartDone,
    ItemStatus,
    OutputCompaction,
    OutputFunctionCall,
    OutputItem,
    OutputItemAdded,
    OutputItemDone,
    OutputMessage,
    OutputPart,
    OutputReasoning,
    OutputTextDelta,
    OutputTextDone,
    OutputTextPart,
    ReasoningTextDelta,
    ReasoningTextDone,
    ReasoningTextPart,
    TextLogprob,
)
from gateway.chat.parsing.pieces import CallStart
from gateway.generation.writer import encode

Numbers = Iterator[int]


def frame(event: Struct) -> bytes:
    """A server-sent event, which repeats the name of its type."""
    name = str(event.__struct_config__.tag).encode()
    return b"event: %b\ndata: %b\n\n" % (name, encode(event))


class ReasoningItem:
    """The model's reasoning."""

    def __init__(self, index: int, numbers: Numbers) -> None:
        self._place = _Place(f"rs_{secrets.token_hex(16)}", index, numbers)
        self._pieces: list[str] = []

    def item(self, status: ItemStatus) -> OutputReasoning:
        content = [ReasoningTextPart("".join(self._pieces))] if self._pieces else []
        return OutputReasoning(id=self._place.id, status=status, content=content)

    def open(self) -> bytes:
        added = self._place.added(self.item("in_progress"))
        return added + self._place.part_added(ReasoningTextPart(""))

    def write(self, text: str) -> bytes:
        self._pieces.append(text)
        place = self._place
        return frame(
            ReasoningTextDelta(
                sequence_number=next(place.numbers),
                item_id=place.id,
                output_index=place.index,
                delta=text,
            )
        )

    def close(self, status: ItemStatus) -> bytes:
        place, text = self._place, "".join(self._pieces)
        done = ReasoningTextDone(
            sequence_number=next(place.numbers),
            item_id=place.id,
            output_index=place.index,
            text=text,
        )
        part = place.part_done(ReasoningTextPart(text))
        return frame(done) + part + place.done(self.item(status))


class MessageItem:
    """The model's text."""

    def __init__(self, index: int, numbers: Numbers) -> None:
        self._place = place = _Place(f"msg_{secrets.token_hex(16)}", index, numbers)
        self._pieces: list[str] = []
        self._logprobs: list[TextLogprob] = []
        self._is_open = False
        self._begin = (
            b"event: response.output_text.delta\n"
            b'data: {"type":"response.output_text.delta","item_id":"%b","output_index":%d,'
            b'"content_index":0,"logprobs":[],"sequence_number":' % (place.id.encode(), index)
        )

    def item(self, status: ItemStatus) -> OutputMessage:
        content = [self._part()] if self._is_open else []
        return OutputMessage(id=self._place.id, status=status, content=content)

    def open(self) -> bytes:
        added = self._place.added(self.item("in_progress"))
        self._is_open = True
        return added + self._place.part_added(self._part())

    def write(self, text: str) -> bytes:
        """More text. Of all that stays the same nothing is encoded again."""
        self._pieces.append(text)
        return b'%b%d,"delta":%b}\n\n' % (self._begin, next(self._place.numbers), encode(text))

    def write_tokens(self, text: str, logprobs: Sequence[TextLogprob]) -> bytes:
        """More tokens; `text` is what they complete, and may be empty."""
        self._pieces.append(text)
        self._logprobs += logprobs
        place = self._place
        return frame(
            OutputTextDelta(
                sequence_number=next(place.numbers),
                item_id=place.id,
                output_index=place.index,
                delta=text,
                logprobs=list(logprobs),
            )
        )

    def close(self, status: ItemStatus) -> bytes:
        place, part = self._place, self._part()
        done = OutputTextDone(
            sequence_number=next(place.numbers),
            item_id=place.id,
            output_index=place.index,
            text=part.text,
            logprobs=part.logprobs,
        )
        return frame(done) + place.part_done(part) + place.done(self.item(status))

    def _part(self) -> OutputTextPart:
        return OutputTextPart(text="".join(self._pieces), logprobs=list(self._logprobs))


class CallItem:
    """A function call."""

    def __init__(self, index: int, numbers: Numbers, start: CallStart) -> None:
        self._place = _Place(f"fc_{secrets.token_hex(16)}", index, numbers)
        self._start = start
        self._pieces: list[str] = []

    def item(self, status: ItemStatus) -> OutputFunctionCall:
        return OutputFunctionCall(
            id=self._place.id,
            call_id=self._start.id,
            name=self._start.name,
            arguments="".join(self._pieces),
            status=status,
        )

    def open(self) -> bytes:
        return self._place.added(self.item("in_progress"))

    def write(self, text: str) -> bytes:
        self._pieces.append(text)
        place = self._place
        return frame(
            ArgumentsDelta(
                sequence_number=next(place.numbers),
                item_id=place.id,
                output_index=place.index,
                delta=text,
            )
        )

    def close(self, status: ItemStatus) -> bytes:
        place = self._place
        done = ArgumentsDone(
            sequence_number=next(place.numbers),
            item_id=place.id,
            output_index=place.index,
            name=self._start.name,
            arguments="".join(self._pieces),
        )
        return frame(done) + place.done(self.item(status))


class CompactionItem:
    """A summary, which is complete when the answer begins."""

    def __init__(self, index: int, numbers: Numbers, item: OutputCompaction) -> None:
        self._place = _Place(item.id, index, numbers)
        self._item = item

    def item(self, status: ItemStatus) -> OutputCompaction:
        """It has no status."""
        return self._item

    def open(self) -> bytes:
        return self._place.added(self._item)

    def close(self, status: ItemStatus) -> bytes:
        return self._place.done(self._item)


Item: TypeAlias = ReasoningItem | MessageItem | CallItem | CompactionItem


class _Place(Struct, frozen=True):
    """The place of an item, and the events that all kinds of items have."""

    id: str
    index: int
    numbers: Numbers

    def added(self, item: OutputItem) -> bytes:
        number = next(self.numbers)
        return frame(OutputItemAdded(sequence_number=number, output_index=self.index, item=item))

    def done(self, item: OutputItem) -> bytes:
        number = next(self.numbers)
        return frame(OutputItemDone(sequence_number=number, output_index=self.index, item=item))

    def part_added(self, part: OutputPart) -> bytes:
        return frame(
            ContentPartAdded(
                sequence_number=next(self.numbers),
                item_id=self.id,
                output_index=self.index,
                part=part,
            )
        )

    def part_done(self, part: OutputPart) -> bytes:
        return frame(
            ContentPartDone(
                sequence_number=next(self.numbers),
                item_id=self.id,
                output_index=self.index,
                part=part,
            )
        )
