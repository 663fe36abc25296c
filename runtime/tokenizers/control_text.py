"""Keeps the texts of control tokens text: finds them, and tokenizes them letter by letter where
nothing else helps."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from runtime.tokenizers.text_pattern import pattern_of
from runtime.tokenizers.tokenizer import Tokenizer

_LINE = "\n"


class ControlTexts:
    """The texts of a tokenizer's control tokens. Making it takes milliseconds."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.pattern = re.compile(f"({pattern_of(tokenizer.control_tokens)})")
        self._in_json = _json_pattern(tokenizer.control_tokens)
        self._spelled: dict[str, list[int]] = {}
        self._line = tokenizer.encode(_LINE, add_special=False, parse_special=False)
        self._prefix, self._suffix = _tokens_around(tokenizer)

    def may_be_in(self, value: Any) -> bool:
        """Whether a string in a value of JSON's types may contain one of the texts. False is
        certain. The cost is that of writing the value as JSON."""
        try:
            return self._in_json.search(msgspec.json.encode(value)) is not None
        except UnicodeEncodeError:  # JSON has no way to write a lone surrogate
            return True

    def encode(self, pieces: Sequence[str], *, add_special: bool) -> list[int]:
        """The ids of a prompt in pieces. Every second piece, from the second on, is the text of a
        control token that is to stay text; in the others control tokens are read.

        `add_special` is as in `Tokenizer.encode`.
        """
        encode = self._tokenizer.encode
        token_ids = list(self._prefix) if add_special else []
        token_ids += encode(pieces[0], add_special=False, parse_special=True)
        for index, piece in enumerate(pieces[1:]):
            if index & 1:
                token_ids += self._continue(piece, parse_special=True)
            else:
                token_ids += self._spell(piece)
        if add_special:
            token_ids += self._suffix
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


def _json_pattern(texts: Iterable[str]) -> re.Pattern[bytes]:
    """The pattern of the texts as they stand in JSON. A text that is not UTF-8 cannot."""
    written = (text for text in texts if not _has_surrogate(text))
    escaped = (msgspec.json.encode(text)[1:-1].decode() for text in written)
    return re.compile(pattern_of(escaped).encode())


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _tokens_around(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """What `add_special` puts before and after a text."""
    text = tokenizer.encode(_LINE, add_special=False, parse_special=False)
    whole = tokenizer.encode(_LINE, add_special=True, parse_special=False)
    starts = range(len(whole) - len(text) + 1)
    start = next((each for each in starts if whole[each : each + len(text)] == text), 0)
    return whole[:start], whole[start + len(text) :]
