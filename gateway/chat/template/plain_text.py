"""Keeps what clients send from becoming control tokens in a prompt.

Texts of control tokens are replaced before a template is rendered, by words that no client can
guess, and put back afterwards as pieces that are tokenized as plain text.
"""

import re
from typing import Any
from uuid import uuid4


class PlainText:
    """Replaces texts of control tokens in the parts of one request. `pattern` finds them."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern
        self._nonce = f"text{uuid4().hex}"
        self._found: dict[str, int] = {}
        self._words = re.compile(rf"{self._nonce}(\d+)e")

    def guarded(self, value: Any) -> Any:
        """The value, of JSON's types, with all texts of control tokens replaced, in keys too."""
        match value:
            case str():
                return self._pattern.sub(self._word, value)
            case dict():
                return {self.guarded(key): self.guarded(each) for key, each in value.items()}
            case list() | tuple():
                return [self.guarded(each) for each in value]
        return value

    def pieces(self, prompt: str) -> tuple[str, ...]:
        """The rendered prompt in pieces: every second one, from the second on, is a text that was
        replaced."""
        texts = list(self._found)
        split = self._words.split(prompt)
        return tuple(texts[int(piece)] if index & 1 else piece for index, piece in enumerate(split))

    def _word(self, found: re.Match[str]) -> str:
        number = self._found.setdefault(found.group(), len(self._found))
        return f"{self._nonce}{number}e"
