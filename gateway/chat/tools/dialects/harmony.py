"""gpt-oss: messages with a channel and, for calls, a recipient (OpenAI's harmony format,
https://cookbook.openai.com/articles/openai-harmony)."""

import re
from collections.abc import Callable, Collection

from gateway.chat.parsing.marks import first_mark, num_held
from gateway.chat.parsing.pieces import Piece
from gateway.chat.parsing.told_calls import ToldCalls
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
        self._told = ToldCalls(new_id, max_calls)
        self._buffer = ""
        self._in_head = True
        self._say: Callable[[str], None] = self._told.content

    def feed(self, text: str) -> list[Piece]:
        self._buffer += text
        while self._read_head() if self._in_head else self._read_body():
            pass
        return self._told.take()

    def finish(self) -> list[Piece]:
        """A head that was cut off is dropped, and so is a partial mark. A text without any head is
        content."""
        rest, self._buffer = self._buffer, ""
        say = self._told.content if self._in_head else self._say
        if not rest.startswith("<|") and say != self._told.arguments:
            say(rest)
        return self._told.take()

    def _read_head(self) -> bool:
        if not self._buffer:
            return False
        if not self._buffer.startswith(_HEAD_MARKS):
            beginning = self._buffer.lstrip()
            if any(mark.startswith(beginning) for mark in (*_HEAD_MARKS, _TO)):
                return False
            if not beginning.startswith(_TO):
                self._say, self._in_head = self._told.content, False
                return True
        head, mark, rest = self._buffer.partition("<|message|>")
        if not mark:
            return False
        self._buffer, self._in_head = rest, False
        self._begin_message(head)
        return True

    def _begin_message(self, head: str) -> None:
        recipient = _RECIPIENT.search(head)
        if recipient is not None and recipient["name"] in self._names:
            self._told.start(recipient["name"])
            self._say = self._told.arguments
        elif recipient is not None:
            self._told.content(f"{head}<|message|>")
            self._say = self._told.content
        else:
            is_analysis = "<|channel|>analysis" in head
            self._say = self._told.reasoning if is_analysis else self._told.content

    def _read_body(self) -> bool:
        position, mark = first_mark(self._buffer, _END_MARKS)
        if not mark:
            position -= num_held(self._buffer, _END_MARKS)
        self._say(self._buffer[:position])
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
