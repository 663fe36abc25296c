"""Gemma: FunctionGemma and Gemma 4 write calls as `call:name{key:value}`, with their own quotes
around strings. Gemma 3 and earlier were taught no dialect, and use the generic one."""

import json
import re
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from msgspec import Struct

from gateway.chat.parsing.marks import first_mark, num_held
from gateway.chat.parsing.pieces import CallArguments, CallStart, Content, Piece
from gateway.chat.parsing.surrogates import escaped
from gateway.chat.tools.dialect import Dialect

_CALL = re.compile(r"\s*call:(?P<name>[\w.-]+)\s*(?P<arguments>\{.*\})\s*", re.DOTALL)
_KEY = re.compile(r"\s*,?\s*(?P<key>[^:{}\[\],]+?)\s*:\s*")
_BARE = re.compile(r"[^,}\]]*")
_BLANKS = re.compile(r"[\s,]*")


class _Marks(Struct, frozen=True):
    begin: str
    end: str
    quote: str


class GemmaParser:
    """Emits a call once it is complete, because its arguments are rewritten as JSON. Text that is
    not a call is content, marks included."""

    def __init__(
        self,
        marks: _Marks,
        names: Collection[str],
        new_id: Callable[[], str],
        max_calls: int | None,
    ) -> None:
        self._marks = marks
        self._names = names
        self._new_id = new_id
        self._max_calls = max_calls
        self._number = -1
        self._buffer = ""

    def feed(self, text: str) -> list[Piece]:
        self._buffer += text
        pieces: list[Piece] = []
        while self._step(pieces):
            pass
        return pieces

    def finish(self) -> list[Piece]:
        rest, self._buffer = self._buffer, ""
        if self._number >= 0 and rest.isspace():
            return []
        return [Content(rest)] if rest else []

    def _step(self, pieces: list[Piece]) -> bool:
        begin, end = self._marks.begin, self._marks.end
        position, mark = first_mark(self._buffer, (begin,))
        if not mark:
            emitted = self._buffer[: len(self._buffer) - num_held(self._buffer, (begin,))].rstrip()
            self._emit(emitted, pieces)
            self._buffer = self._buffer[len(emitted) :]
            return False
        text, mark, rest = self._buffer[position:].partition(end)
        if not mark:
            self._emit(emitted := self._buffer[:position].rstrip(), pieces)
            self._buffer = self._buffer[len(emitted) :]
            return False
        before, self._buffer = self._buffer[:position], rest
        call = read_call(text.removeprefix(begin), self._marks.quote)
        if call is None or call[0] not in self._names:
            self._emit(before + text + end, pieces)
        else:
            self._emit(before.rstrip(), pieces)
            self._call(*call, pieces)
        return True

    def _emit(self, text: str, pieces: list[Piece]) -> None:
        if text:
            pieces.append(Content(text))

    def _call(self, name: str, arguments: dict[str, Any], pieces: list[Piece]) -> None:
        self._number += 1
        if self._max_calls is not None and self._number >= self._max_calls:
            return
        pieces.append(CallStart(self._number, self._new_id(), name))
        written = escaped(json.dumps(arguments, ensure_ascii=False))
        pieces.append(CallArguments(self._number, written))


def read_call(text: str, quote: str) -> tuple[str, dict[str, Any]] | None:
    """The name and arguments of `call:name{key:value}`; None for any other text."""
    found = _CALL.fullmatch(text)
    if found is None:
        return None
    try:
        value, end = _Reader(found["arguments"], quote).value(0)
    except ValueError:
        return None
    if end != len(found["arguments"]) or not isinstance(value, dict):
        return None
    return found["name"], value


class _Reader:
    """Reads values: objects, lists, strings in quotes, and JSON's other values without quotes."""

    def __init__(self, text: str, quote: str) -> None:
        self._text = text
        self._quote = quote

    def value(self, position: int) -> tuple[Any, int]:
        if self._text.startswith("{", position):
            return self._object(position + 1)
        if self._text.startswith("[", position):
            return self._list(position + 1)
        if self._text.startswith(self._quote, position):
            begin = position + len(self._quote)
            end = self._text.index(self._quote, begin)
            return self._text[begin:end], end + len(self._quote)
        return self._bare(position)

    def _bare(self, position: int) -> tuple[Any, int]:
        found = _BARE.match(self._text, position)
        text = found[0].strip() if found else ""
        if not text:
            raise ValueError("a value is missing")
        try:
            return json.loads(text), position + len(found[0] if found else "")
        except ValueError:
            return text, position + len(found[0] if found else "")

    def _object(self, position: int) -> tuple[dict[str, Any], int]:
        result: dict[str, Any] = {}
        while not self._text.startswith("}", position := self._skip(position)):
            key = _KEY.match(self._text, position)
            if key is None:
                raise ValueError("a key is missing")
            name = key["key"].removeprefix(self._quote).removesuffix(self._quote)
            result[name], position = self.value(key.end())
        return result, position + 1

    def _list(self, position: int) -> tuple[list[Any], int]:
        result: list[Any] = []
        while not self._text.startswith("]", position := self._skip(position)):
            item, position = self.value(position)
            result.append(item)
        return result, position + 1

    def _skip(self, position: int) -> int:
        found = _BLANKS.match(self._text, position)
        return found.end() if found else position


_FUNCTION_GEMMA = _Marks("<start_function_call>", "<end_function_call>", "<escape>")
_GEMMA_4 = _Marks("<|tool_call>", "<tool_call|>", '<|"|>')


def _dialect(name: str, marks: _Marks) -> Dialect:
    return Dialect(
        name=name,
        signs=((marks.begin, marks.end),),
        marks=(marks.begin, marks.end, marks.quote),
        form=None,
        new_parser=partial(GemmaParser, marks),
    )


FUNCTION_GEMMA = _dialect("functiongemma", _FUNCTION_GEMMA)
GEMMA4 = _dialect("gemma4", _GEMMA_4)
