"""gpt-oss: messages with a channel and, for calls, a recipient (OpenAI's harmony format,
https://cookbook.openai.com/articles/openai-harmony)."""

import re
from collections.abc import Callable, Collection

from gateway.chat.parsing.marks import first_mark, num_held
from gateway.chat.parsing.pieces import CallArguments, CallStart, Content, Piece, Reasoning
from gateway.chat.tools.dialect import CallForm, Dialect

_HEAD_MARKS = ("<|start|>", "<|channel|>", "<|message|>", "<|constrain|>")
_END_MARKS = ("<|end|>", "<|call|>", "<|return|>", "<|start|>", "<|channel|>")
_TO = "to=functions."
_RECIPIENT = re.compile(r"to=functions\.(?P<name>[\w.-]+)")


class HarmonyParser:
    """The analysis channel is reasoning, a message to a function is a call, all other text is
    content.

    A call begins as soon as its head is complete; its arguments are the body of the message. A
    message to a function that is not in `names` is content, head included.
    """

    def __init__(
        self, names: Collection[str], new_id: Callable[[], str], max_calls: int | None
    ) -> None:
        self._names = names
        self._new_id = new_id
        self._max_calls = max_calls
        self._number = -1
        self._buffer = ""
        self._in_head = True
        self._make: Callable[[str], Piece | None] = Content

    def feed(self, text: str) -> list[Piece]:
        self._buffer += text
        pieces: list[Piece] = []
        while self._read_head(pieces) if self._in_head else self._read_body(pieces):
            pass
        return pieces

    def finish(self) -> list[Piece]:
        """A head that was cut off is dropped, and so is a partial mark. A text without any head is
        content."""
        rest, self._buffer = self._buffer, ""
        if not rest or rest.startswith("<|"):
            return []
        piece = Content(rest) if self._in_head else self._make(rest)
        return [] if piece is None or isinstance(piece, CallArguments) else [piece]

    def _read_head(self, pieces: list[Piece]) -> bool:
        if not self._buffer:
            return False
        if not self._buffer.startswith(_HEAD_MARKS):
            beginning = self._buffer.lstrip()
            if any(mark.startswith(beginning) for mark in (*_HEAD_MARKS, _TO)):
                return False
            if not beginning.startswith(_TO):
                self._make, self._in_head = Content, False
                return True
        head, mark, rest = self._buffer.partition("<|message|>")
        if not mark:
            return False
        self._buffer, self._in_head = rest, False
        self._begin_message(head, pieces)
        return True

    def _begin_message(self, head: str, pieces: list[Piece]) -> None:
        recipient = _RECIPIENT.search(head)
        if recipient is not None and recipient["name"] in self._names:
            self._number += 1
            if self._max_calls is not None and self._number >= self._max_calls:
                self._make = lambda _: None
                return
            number = self._number
            pieces.append(CallStart(number, self._new_id(), recipient["name"]))
            self._make = lambda text: CallArguments(number, text)
        elif recipient is not None:
            pieces.append(Content(f"{head}<|message|>"))
            self._make = Content
        else:
            self._make = Reasoning if "<|channel|>analysis" in head else Content

    def _read_body(self, pieces: list[Piece]) -> bool:
        position, mark = first_mark(self._buffer, _END_MARKS)
        if not mark:
            position -= num_held(self._buffer, _END_MARKS)
        piece = self._make(self._buffer[:position]) if position else None
        if piece is not None:
            pieces.append(piece)
        begins_head = mark in _HEAD_MARKS
        self._buffer = self._buffer[position if begins_head else position + len(mark) :]
        self._in_head = bool(mark)
        return bool(mark)


HARMONY = Dialect(
    name="harmony",
    signs=(("<|channel|>", "<|message|>"),),
    marks=("<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|end|>"),
    form=CallForm(
        trigger="<|channel|>commentary to=",
        opening="<|channel|>commentary to=functions.",
        separator="<|end|><|start|>assistant<|channel|>commentary to=functions.",
        close="",
        begin=lambda name: f"{name} <|constrain|>json<|message|>",
        end="",
        answer="<|channel|>final<|message|>",
        thought_start="<|channel|>analysis<|message|>",
        thought_end="<|end|><|start|>assistant",
    ),
    new_parser=HarmonyParser,
    parses_reasoning=True,
)
