"""Keeps what clients send from becoming control tokens in a prompt.

Texts of control tokens, and the edges of texts that could become one beside the template's own
text, are replaced before a template is rendered, by words that no client can guess. Afterwards they
are put back, and where they make a control token it becomes a piece that is tokenized as plain
text.
"""

import re
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from runtime.tokenizers.control_text import ControlTexts


class PlainText:
    """Replaces and restores the texts of one request."""

    def __init__(self, control: ControlTexts) -> None:
        self._control = control
        self._nonce = f"text{uuid4().hex}"
        self._found: dict[str, int] = {}
        self._words = re.compile(rf"{self._nonce}(\d+)e")

    def guarded(self, value: Any) -> Any:
        """The value, of JSON's types, with all such texts replaced, in keys too."""
        match value:
            case str():
                return self._control.replaced(value, self._word)
            case dict():
                return {self.guarded(key): self.guarded(each) for key, each in value.items()}
            case list() | tuple():
                return [self.guarded(each) for each in value]
        return value

    def pieces(self, prompt: str) -> tuple[str, ...]:
        """The rendered prompt in pieces: every second one, from the second on, is the text of a
        control token that the client has a part in."""
        text, spans = self._restored(prompt)
        pieces: list[str] = []
        start = 0
        for found in self._control.pattern.finditer(text):
            while spans and spans[-1][1] <= found.start():
                spans.pop()
            if spans and spans[-1][0] < found.end():
                pieces += [text[start : found.start()], found.group()]
                start = found.end()
        return (*pieces, text[start:])

    def _restored(self, prompt: str) -> tuple[str, list[tuple[int, int]]]:
        """The prompt with the texts put back, and where they are, the last first."""
        texts: Sequence[str] = list(self._found)
        restored: list[str] = []
        spans: list[tuple[int, int]] = []
        length = 0
        for index, piece in enumerate(self._words.split(prompt)):
            text = texts[int(piece)] if index & 1 else piece
            if index & 1:
                spans.append((length, length + len(text)))
            restored.append(text)
            length += len(text)
        return "".join(restored), spans[::-1]

    def _word(self, found: re.Match[str]) -> str:
        number = self._found.setdefault(found.group(), len(self._found))
        return f"{self._nonce}{number}e"
