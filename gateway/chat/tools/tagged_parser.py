"""The parser of dialects whose arguments are plain text between tags."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import regex
from msgspec import Struct

from gateway.chat.parsing.marks import first_mark, num_held
from gateway.chat.parsing.pieces import Piece
from gateway.chat.parsing.told_calls import ToldCalls
from runtime.messages.tagged_values import (
    ANYTHING,
    AllowedValues,
    allowed_values,
    read_value,
    resolved,
)


class TagSyntax(Struct, frozen=True, kw_only=True):
    """The syntax of tool calls between tags.

    A call begins at one of `openers`, where `head` has to match, with the function's name. Then
    come arguments: `key`, with the argument's name, and text up to `value_end`. `end` matches the
    end of the call, after which the texts of `tail` may follow, each once and in this order. A
    value has `margin` around it, which does not belong to it.
    """

    openers: tuple[str, ...]
    head: regex.Pattern[str]
    key: regex.Pattern[str]
    value_end: str
    end: regex.Pattern[str]
    tail: tuple[str, ...] = ()
    margin: str = ""


class TaggedParser:
    """Text that is not a call is content. A call begins when its name is known to be one of
    `functions`, which maps names to the JSON schemas of their arguments.

    Arguments become JSON as they come: strings piece by piece, other values when they are complete.
    Blanks before and between calls, and after the last call, are dropped.
    """

    def __init__(
        self,
        syntax: TagSyntax,
        functions: Mapping[str, Mapping[str, Any]],
        new_id: Callable[[], str],
        max_calls: int | None,
    ) -> None:
        self._syntax = syntax
        self._functions = functions
        self._told = ToldCalls(new_id, max_calls)
        self._buffer = ""
        self._state: Callable[[], bool] = self._text
        self._tail: Sequence[str] = ()
        self._schema: Mapping[str, Any] = {}
        self._num_arguments = 0
        self._allowed: AllowedValues = ANYTHING
        self._num_searched = 0

    def feed(self, text: str) -> list[Piece]:
        self._buffer += text
        while self._state():
            pass
        return self._told.take()

    def finish(self) -> list[Piece]:
        """A call that has begun stays a call, however incomplete. Text held after a call is
        dropped: it is blanks, or the beginning of another call that was cut off."""
        if self._state == self._text:
            position, opener = first_mark(self._buffer, self._syntax.openers)
            is_cut = self._told.has_begun and (opener or not self._buffer.strip())
            self._told.content(self._buffer[:position].rstrip() if is_cut else self._buffer)
        elif self._state == self._value:
            self._cut_value()
        self._buffer = ""
        return self._told.take()

    # Each state consumes what it can from the buffer; True if there may be more to parse.

    def _text(self) -> bool:
        openers = self._syntax.openers
        position, opener = first_mark(self._buffer, openers)
        if not opener:
            position -= num_held(self._buffer, openers)
        head = self._syntax.head.match(self._buffer, position, partial=True) if opener else None
        if opener and (head is None or self._is_unknown(head)):
            self._told.content(self._buffer[: position + len(opener)])
            self._buffer = self._buffer[position + len(opener) :]
            return True
        before = self._buffer[:position].rstrip()
        self._told.content(before)
        if head is None or head.partial:
            self._buffer = self._buffer[len(before) :]
            return False
        self._start(head)
        return True

    def _is_unknown(self, head: "regex.Match[str]") -> bool:
        return not head.partial and head["name"] not in self._functions

    def _start(self, head: "regex.Match[str]") -> None:
        self._buffer = self._buffer[head.end() :]
        self._told.start(head["name"])
        self._num_arguments = 0
        self._schema = self._functions[head["name"]]
        self._state = self._between

    def _between(self) -> bool:
        """Before an argument, or at the end of the call. Anything else ends the call, too."""
        key = self._syntax.key.match(self._buffer, partial=True)
        if key is not None and not key.partial:
            self._buffer = self._buffer[key.end() :]
            self._begin_value(key["key"])
            return True
        end = self._syntax.end.match(self._buffer, partial=True)
        if (key is not None and end is None) or (end is not None and end.partial):
            return False
        if end is not None:
            self._buffer = self._buffer[end.end() :]
        self._told.arguments("}" if self._num_arguments else "{}")
        self._tail = self._syntax.tail
        self._state = self._after
        return True

    def _begin_value(self, name: str) -> None:
        before = ", " if self._num_arguments else "{"
        self._told.arguments(f"{before}{json.dumps(name, ensure_ascii=False)}: ")
        self._num_arguments += 1
        self._allowed = _allowed_for(name, self._schema)
        self._num_searched = 0
        self._state = self._margin

    def _margin(self) -> bool:
        margin = self._syntax.margin
        if len(self._buffer) < len(margin):
            return False
        self._buffer = self._buffer.removeprefix(margin)
        if self._allowed.is_text:
            self._told.arguments('"')
        self._state = self._value
        return True

    def _value(self) -> bool:
        end = self._syntax.value_end
        position = self._buffer.find(end, self._num_searched)
        if position < 0:
            self._stream()
            return False
        text = self._buffer[:position].removesuffix(self._syntax.margin)
        self._buffer = self._buffer[position + len(end) :]
        is_text = self._allowed.is_text
        self._told.arguments(f'{_inner(text)}"' if is_text else read_value(text, self._allowed))
        self._state = self._between
        return True

    def _stream(self) -> None:
        """Says what is certain of a string that goes on."""
        end = self._syntax.value_end
        held = num_held(self._buffer, (end, self._syntax.margin + end))
        if self._allowed.is_text:
            text = self._buffer[: len(self._buffer) - held]
            self._told.arguments(_inner(text))
            self._buffer = self._buffer[len(text) :]
            self._num_searched = 0
        else:
            self._num_searched = len(self._buffer) - held

    def _cut_value(self) -> None:
        """Says what came of a value that is cut off."""
        end = self._syntax.value_end
        held = num_held(self._buffer, (end, self._syntax.margin + end))
        text = self._buffer[: len(self._buffer) - held]
        if not self._allowed.is_text:
            self._told.arguments(f'"{_inner(text)}' if self._allowed.has_text else text)

    def _after(self) -> bool:
        """After a call: its tail, the next call, or text again."""
        rest = self._buffer.lstrip()
        for number, text in enumerate(self._tail):
            if rest.startswith(text):
                self._tail = self._tail[number + 1 :]
                self._buffer = rest[len(text) :]
                return True
        if any(text.startswith(rest) for text in (*self._tail, *self._syntax.openers)):
            return False
        self._state = self._text
        return True


def _inner(text: str) -> str:
    """A text as the inner part of a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _allowed_for(name: str, root: Mapping[str, Any]) -> AllowedValues:
    """The values that an argument may have."""
    schema = resolved(root, root)
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if isinstance(properties, dict) and name in properties:
        return allowed_values(properties[name], root)
    additional = schema.get("additionalProperties") if isinstance(schema, dict) else None
    return allowed_values(additional, root) if isinstance(additional, dict) else ANYTHING
