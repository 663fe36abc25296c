"""Prints an answer in the terminal while it is streamed."""

import sys

from msgspec import Struct
from rich.text import Text

from runtime.terminal.console import Console


class Piece(Struct, frozen=True):
    """A part of an answer: content or, with `is_thought`, reasoning."""

    text: str
    is_thought: bool = False


class AnswerPrinter:
    """Writes content to stdout, and reasoning, dimmed, to stderr, so that a pipe gets the content
    alone. With `hide_reasoning` no reasoning is shown."""

    def __init__(self, *, hide_reasoning: bool) -> None:
        self._hide_reasoning = hide_reasoning
        self._thoughts = Console(stderr=True, soft_wrap=True, highlight=False)
        self._in_thought = False

    def write(self, piece: Piece) -> None:
        if not piece.is_thought:
            self.end_thought()
            print(piece.text, end="", flush=True)
        elif not self._hide_reasoning:
            self._in_thought = True
            self._thoughts.print(Text(piece.text, style="dim"), end="")
            sys.stderr.flush()

    def end_thought(self) -> None:
        """Starts a new line if reasoning was printed last. To be called at the end, too: an answer
        may end before its content begins."""
        if self._in_thought:
            self._thoughts.print()
            self._in_thought = False
