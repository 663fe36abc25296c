"""Keeps the texts of control tokens text: finds them, and tokenizes them letter by letter where
nothing else helps."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from typing import Any

import msgspec
from msgspec import Struct

from runtime.tokenizers.special_tokens import find
from runtime.tokenizers.text_pattern import pattern_of
from runtime.tokenizers.tokenizer import Tokenizer

_LINE = "\n"
_MAX_MISSING = 2
"""How much of a control token a template's text may supply on one side: `<|` or `|>`."""
_MIN_EDGE = 2
_INSIDE = "\0"
"""Stands for the rest of a text: no control token has it."""
_MAX_SEARCHED = 262_144
"""Bytes of JSON that are searched at once, in some tens of milliseconds."""
_JSON_BLANKS = r"(?: |\\[nrt])*"
_DIGIT = re.compile("[0-9]")


class Around(Struct, frozen=True):
    """The token ids that `add_special` puts before and after a text."""

    before: tuple[int, ...]
    after: tuple[int, ...]


class ControlTexts:
    """The texts of a tokenizer's control tokens. Making it takes milliseconds. `around` is what
    `add_special` adds."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.pattern = re.compile(f"({pattern_of(tokenizer.control_tokens)})")
        edges = _Edges.of(tokenizer.control_tokens)
        self._edges = edges.pattern()
        self._longest = max(map(len, tokenizer.control_tokens), default=1)
        self._in_json = edges.json_patterns(tokenizer.control_tokens)
        self._spelled: dict[str, list[int]] = {}
        self._line = tokenizer.encode(_LINE, add_special=False, parse_special=False)
        self.around = _tokens_around(tokenizer)

    def may_be_in(self, value: Any) -> bool:
        """Whether `replaced` may find something in a string in a value of JSON's types. False is
        certain, and True for what is too long to be searched at once. The cost is that of writing
        the value as JSON."""
        try:
            written = msgspec.json.encode(value)
        except UnicodeEncodeError:  # JSON has no way to write a lone surrogate
            return True
        if len(written) > _MAX_SEARCHED:
            return True
        return any(pattern.search(written) for pattern in self._in_json)

    def replaced(self, text: str, replace: Callable[[re.Match[str]], str]) -> str:
        """The text with all that may be, or become, a control token in it replaced: whole texts of
        control tokens, and beginnings and ends that lack no more than two characters of one, with
        blanks around them, which templates cut off."""
        text = "".join(self._whole_replaced(text, replace))
        start = len(text) - len(text.lstrip())
        end = len(text.rstrip())
        if start >= end:
            return text
        return text[:start] + self._edges_replaced(text[start:end], replace) + text[end:]

    def _whole_replaced(self, text: str, replace: Callable[[re.Match[str]], str]) -> Iterator[str]:
        position = 0
        while (found := find(self.pattern, text, position, self._longest)) is not None:
            yield text[position : found.start()]
            yield replace(found)
            position = found.end()
        yield text[position:]

    def _edges_replaced(self, text: str, replace: Callable[[re.Match[str]], str]) -> str:
        """Looks at the ends alone: what is between them is no edge."""
        size = self._longest
        if len(text) <= 2 * size:
            return self._edges.sub(replace, text)
        head = self._edges.sub(replace, text[:size] + _INSIDE).removesuffix(_INSIDE)
        tail = self._edges.sub(replace, _INSIDE + text[-size:]).removeprefix(_INSIDE)
        return head + text[size:-size] + tail

    def encode(self, pieces: Sequence[str], *, add_special: bool) -> list[int]:
        """The ids of a prompt in pieces. Every second piece, from the second on, is the text of a
        control token that is to stay text; in the others control tokens are read.

        `add_special` is as in `Tokenizer.encode`.
        """
        encode = self._tokenizer.encode
        token_ids = list(self.around.before) if add_special else []
        token_ids += encode(pieces[0], add_special=False, parse_special=True)
        for index, piece in enumerate(pieces[1:]):
            if index & 1:
                token_ids += self._continue(piece, parse_special=True)
            else:
                token_ids += self._spell(piece)
        if add_special:
            token_ids += self.around.after
        return token_ids

    def _spell(self, text: str) -> list[int]:
        """The ids of the text of a control token as plain text. Cut behind its first character, no
        tokenizer can find the token in it."""
        known = self._spelled.get(text)
        if known is None:
            known = self._spelled[text] = [
                token_id
                for part in self._parts(text)
                for token_id in self._continue(part, parse_special=False)
            ]
        return known

    def _parts(self, text: str) -> Iterator[str]:
        while text:
            yield text[0]
            found = self.pattern.search(text, 1)
            end = len(text) if found is None else found.start()
            if end > 1:
                yield text[1:end]
            text = text[end:]

    def _continue(self, text: str, *, parse_special: bool) -> list[int]:
        """The ids of a text that is not the first of its prompt. Behind a line feed, tokenizers do
        not add the blank that they put in front of a text."""
        if not text:
            return []
        encode = self._tokenizer.encode
        token_ids = encode(_LINE + text, add_special=False, parse_special=parse_special)
        if self._line and token_ids[: len(self._line)] == self._line:
            return token_ids[len(self._line) :]
        return encode(text, add_special=False, parse_special=parse_special)


class _Edges(Struct, frozen=True):
    """Parts of control tokens that a text may begin with (`starts`), end with (`ends`) or consist
    of (`wholes`), so that a template's own text beside them completes a token. Tokens with a number
    in their names are left out: they are reserves, many, and without a meaning."""

    starts: set[str]
    ends: set[str]
    wholes: set[str]

    @classmethod
    def of(cls, tokens: Iterable[str]) -> "_Edges":
        edges = cls(set(), set(), set())
        for token in tokens:
            if _DIGIT.search(token):
                continue
            size = len(token)
            cuts = product(range(_MAX_MISSING + 1), range(size - _MAX_MISSING, size + 1))
            for start, end in cuts:
                edges._add(token[start:end], start > 0, end < size)
        return edges

    def _add(self, part: str, is_open_left: bool, is_open_right: bool) -> None:
        if len(part) < _MIN_EDGE:
            return
        if is_open_left and is_open_right:
            if not part.isalnum():
                self.wholes.add(part)
        elif is_open_left:
            self.starts.add(part)
        elif is_open_right:
            self.ends.add(part)

    def pattern(self) -> re.Pattern[str]:
        starts, ends, wholes = map(pattern_of, (self.starts, self.ends, self.wholes))
        return re.compile(rf"\A(?:{starts})|\A(?:{wholes})\Z|(?:{ends})\Z")

    def json_patterns(self, tokens: Iterable[str]) -> list[re.Pattern[bytes]]:
        """Patterns of all tokens and edges as they stand in JSON. What is not UTF-8 cannot.

        There are two, each of which begins with the same characters in most vocabularies: these are
        found fastest.
        """
        known, starts, ends, wholes = (
            pattern_of(map(_in_json, parts))
            for parts in (tokens, self.starts, self.ends, self.wholes)
        )
        patterns = (
            rf"{known}|{ends}{_JSON_BLANKS}\"",
            rf"\"{_JSON_BLANKS}(?:{starts}|{wholes}{_JSON_BLANKS}\")",
        )
        return [re.compile(each.encode("utf-8", "surrogateescape")) for each in patterns]


def _in_json(text: str) -> str:
    try:
        return msgspec.json.encode(text)[1:-1].decode()
    except UnicodeEncodeError:  # found in no JSON
        return text


def _tokens_around(tokenizer: Tokenizer) -> Around:
    """What `add_special` puts before and after a text."""
    text = tokenizer.encode(_LINE, add_special=False, parse_special=False)
    whole = tokenizer.encode(_LINE, add_special=True, parse_special=False)
    starts = range(len(whole) - len(text) + 1)
    start = next((each for each in starts if whole[each : each + len(text)] == text), 0)
    return Around(tuple(whole[:start]), tuple(whole[start + len(text) :]))
