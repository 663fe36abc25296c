"""Gemma: FunctionGemma and Gemma 4 write calls as `call:name{key:value}`, with their own quotes
around strings. Gemma 3 and earlier were taught no dialect, and use the generic one."""

import json
import re
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from msgspec import Struct

from gateway.chat.parsing.marks import first_mark, num_held
from gateway.chat.parsing.pieces import Piece
from gateway.chat.parsing.surrogates import escaped
from gateway.chat.parsing.told_calls import ToldCalls
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
        self._told = ToldCalls(new_id, max_calls)
        self._buffer = ""

    def feed(self, text: str) -> list[Piece]:
        self._buffer += text
        while self._step():
            pass
        return self._told.take()

    def finish(self) -> list[Piece]:
        rest, self._buffer = self._buffer, ""
        if not (self._told.has_begun and rest.isspace()):
            self._told.content(rest)
        return self._told.take()

    def _step(self) -> bool:
        begin, end = self._marks.begin, self._marks.end
        position, mark = first_mark(self._buffer, (begin,))
        if not mark:
            emitted = self._buffer[: len(self._buffer) - num_held(self._buffer, (begin,))].rstrip()
            self._told.content(emitted)
            self._buffer = self._buffer[len(emitted) :]
            return False
        text, mark, rest = self._buffer[position:].partition(end)
        if not mark:
            self._told.content(emitted := self._buffer[:position].rstrip())
            self._buffer = self._buffer[len(emitted) :]
            return False
        before, self._buffer = self._buffer[:position], rest
        call = read_call(text.removeprefix(begin), self._marks.quote)
        if call is None or call[0] not in self._names:
            self._told.content(before + text + end)
        else:
            self._told.content(before.rstrip())
            self._call(*call)
        return True

    def _call(self, name: str, arguments: dict[str, Any]) -> None:
        self._told.start(name)
        self._told.arguments(escaped(json.dumps(arguments, ensure_ascii=False)))


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
