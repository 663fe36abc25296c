"""The parser of most dialects: marks, a head with the function's name, arguments in JSON."""

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import regex
from msgspec import Struct

from gateway.chat.parsing.json_scanner import JsonScanner
from gateway.chat.parsing.marks import first_mark, num_held
from gateway.chat.parsing.pieces import Piece
from gateway.chat.parsing.surrogates import escaped
from gateway.chat.parsing.told_calls import ToldCalls
from runtime.messages.bare_calls import ARGUMENTS, before_calls, call_begin, wrapped_call_begin

_S = r"\s*"
_WRAPPERS = ("function", "function_call")
_BEGIN = rf"(?:(?P<wrapper>{wrapped_call_begin(_S)})|{call_begin(_S)})(?P<name>[^\"\\]*)\""

OBJECT_HEAD = re.compile(rf"\s*{before_calls(_S)}{_BEGIN}\s*,\s*\"{ARGUMENTS}\"\s*:\s*(?=\{{)")
"""The head of a call that is a JSON object of its own, up to its arguments. It may be the first of
a list, and inside a code fence."""

BARE_CALL = regex.compile(rf"\s*{before_calls(_S)}(?:{wrapped_call_begin(_S)}|{call_begin(_S)})")
"""The beginning of a call without a mark."""

_OBJECT_HOPE = re.compile(r"\s*(?:`{1,2}|```j?s?o?n?\s*)?\[?\s*(\{.*)?", re.DOTALL)
_NAMED = re.compile(rf"[^{{]*{_BEGIN}")
_SPACE = re.compile(_S)
_OBJECT_TAIL = ("]", "```")
_OBJECT_AGAIN = (",", ";")


class CallSyntax(Struct, frozen=True, kw_only=True):
    """The syntax of tool calls in a text.

    `openers` are marks that a call's head follows. `head` matches the text before the arguments,
    with the function's name; `hope` matches a text that may become a head. With `is_object` a call
    is a JSON object of its own, whose members may come in any order, or a list of them. `tail` are
    texts that may follow a call, each once and in this order. After `again` another head comes.
    `bare` matches the beginning of a call without a mark, which is always such an object; it comes
    first in an answer or after another call.
    """

    openers: tuple[str, ...]
    head: re.Pattern[str] = OBJECT_HEAD
    hope: re.Pattern[str] = _OBJECT_HOPE
    is_object: bool = True
    tail: tuple[str, ...] = ()
    again: tuple[str, ...]
    bare: regex.Pattern[str] | None = BARE_CALL


class Call(NamedTuple):
    """One call whose text is complete."""

    name: str
    arguments: str


class CallParser:
    """Text before a mark is content. A call begins when its name is known to be one of `names`.
    Until then the parser holds the text back, and emits it as content if it is not a call after
    all. The following text is arguments, exactly as the model writes them, until their JSON ends.

    Blanks before and between calls, and after the last call, are dropped.
    """

    def __init__(
        self,
        syntax: CallSyntax,
        names: Collection[str],
        new_id: Callable[[], str],
        max_calls: int | None,
    ) -> None:
        self._syntax = syntax
        self._names = names
        self._told = ToldCalls(new_id, max_calls)
        self._buffer = ""
        self._held = ""  # text removed from the buffer that may still be content
        self._state: Callable[[], bool] = self._begin
        self._mark = ""
        self._is_bare = False
        self._is_object = syntax.is_object
        self._scanner = JsonScanner()
        self._depth = 1
        self._tail: Sequence[str] = ()
        self._again: Sequence[str] = ()

    def feed(self, text: str) -> list[Piece]:
        self._buffer += text
        while self._state():
            pass
        return self._told.take()

    def finish(self) -> list[Piece]:
        """A call that has begun stays a call, however incomplete. Text held after a call is
        dropped: it is blanks, or the beginning of another call that was cut off."""
        is_cut = self._told.has_begun and self._state == self._head
        if self._state in (self._begin, self._text, self._head) and not is_cut:
            self._told.content(self._held + self._buffer)
        self._held = self._buffer = ""
        return self._told.take()

    # Each state consumes what it can from the buffer; True if there may be more to parse.

    def _begin(self) -> bool:
        """At the beginning of the answer, where a call may stand without a mark."""
        is_call = self._begins_bare(self._buffer)
        if is_call is None:
            return False
        self._state = self._text
        if is_call:
            self._restart_head("")
        return True

    def _begins_bare(self, text: str) -> bool | None:
        """Whether a call without a mark begins here; None while undecided."""
        if self._syntax.bare is None:
            return False
        found = self._syntax.bare.match(text, partial=True)
        if found is None:
            return False
        return None if found.partial else True

    def _text(self) -> bool:
        position, opener = first_mark(self._buffer, self._syntax.openers)
        if not opener:
            keep = num_held(self._buffer, self._syntax.openers)
            end = len(self._buffer) - keep
            end = len(self._buffer[:end].rstrip()) if end else 0
            self._told.content(self._buffer[:end])
            self._buffer = self._buffer[end:]
            return False
        before = self._buffer[:position]
        emitted = before.rstrip()
        self._told.content(emitted)
        self._held = before[len(emitted) :] + opener
        self._buffer = self._buffer[position + len(opener) :]
        self._restart_head(opener)
        return True

    def _restart_head(self, mark: str) -> None:
        """`mark` is the text before the head."""
        self._state = self._head
        self._mark = mark
        if mark not in _OBJECT_AGAIN:
            self._is_bare = not mark
            self._is_object = self._syntax.is_object or not mark
        self._scanner = JsonScanner()
        self._num_scanned = 0

    def _head(self) -> bool:
        syntax = self._syntax
        head = (OBJECT_HEAD if self._is_object else syntax.head).match(self._buffer)
        if head is not None and head["name"] in self._names:
            self._start(head["name"])
            self._buffer = self._buffer[head.end() :]
            self._depth = 2 if self._is_object and head["wrapper"] else 1
            self._scanner = JsonScanner()
            self._state = self._arguments
            return True
        hope = _OBJECT_HOPE if self._is_object else syntax.hope
        if head is not None or not hope.fullmatch(self._buffer):
            return self._no_call()
        return self._is_object and self._whole_object()

    def _whole_object(self) -> bool:
        """Parses a call whose members come in another order, which needs the complete object."""
        begin = self._buffer.find("{")
        if begin < 0:
            return False
        self._num_scanned = max(self._num_scanned, begin)
        end = self._scanner.feed(self._buffer[self._num_scanned :])
        if end is None:
            self._num_scanned = len(self._buffer)
            return False
        end += self._num_scanned
        call = read_call(self._buffer[begin:end])
        if call is None or call.name not in self._names or not self._may_be(call):
            return self._no_call()
        self._start(call.name)
        self._told.arguments(call.arguments)
        self._buffer = self._buffer[end:]
        return self._ended()

    def _may_be(self, call: Call) -> bool:
        """Grammars recognize a bare call by the name that it begins with, as it is written."""
        named = _NAMED.match(self._buffer)
        return not self._is_bare or (named is not None and named["name"] == call.name)

    def _no_call(self) -> bool:
        self._told.content(self._held)
        self._held = ""
        self._state = self._text
        return True

    def _arguments(self) -> bool:
        end = self._scanner.feed(self._buffer)
        self._told.arguments(self._buffer[:end])
        self._buffer = "" if end is None else self._buffer[end:]
        if end is None:
            return False
        if not self._is_object:
            return self._ended()
        self._scanner = JsonScanner(depth=self._depth)
        self._state = self._rest
        return True

    def _rest(self) -> bool:
        """Skips the members of the object after its arguments."""
        end = self._scanner.feed(self._buffer)
        self._buffer = "" if end is None else self._buffer[end:]
        return end is not None and self._ended()

    def _ended(self) -> bool:
        self._tail, self._again = self._syntax.tail, self._syntax.again
        if self._is_object:
            self._tail = (*_OBJECT_TAIL, *self._tail)
            self._again = (*self._again, *_OBJECT_AGAIN)
        self._state = self._after
        return True

    def _after(self) -> bool:
        """After a call: its tail, the next call, or text again."""
        space = _SPACE.match(self._buffer)
        assert space is not None, "nothing is a blank text too"
        rest = self._buffer[space.end() :]
        for number, text in enumerate(self._tail):
            if rest.startswith(text):
                self._tail = self._tail[number + 1 :]
                self._buffer = rest[len(text) :]
                return True
        for text in self._again:
            if rest.startswith(text):
                self._held = self._buffer[: space.end()] + text
                self._buffer = rest[len(text) :]
                self._restart_head(text)
                return True
        is_call = self._begins_bare(rest)
        if is_call:
            self._restart_head("")
            return True
        if is_call is None or any(text.startswith(rest) for text in (*self._tail, *self._again)):
            return False
        self._state = self._text
        return True

    def _start(self, name: str) -> None:
        self._held = ""
        self._told.start(name, is_bare=self._told.has_begun and not self._mark)


def read_call(text: str) -> Call | None:
    """Reads a JSON object as a call; None if it is not a call."""
    try:
        call = json.loads(text)
    except ValueError:
        return None
    if isinstance(call, dict):
        call = next((call[key] for key in _WRAPPERS if isinstance(call.get(key), dict)), call)
    if not isinstance(call, dict) or not isinstance(name := _name(call), str):
        return None
    arguments = call.get("arguments", call.get("parameters"))
    if arguments is None:
        return Call(name, "{}")
    if isinstance(arguments, str):
        return Call(name, escaped(arguments) or "{}")
    return Call(name, escaped(json.dumps(arguments, ensure_ascii=False)))


def _name(call: Mapping[str, Any]) -> Any:
    return call.get("name", call.get("function"))
