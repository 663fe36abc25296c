"""An answer in the terminal, as it comes."""

import sys

from msgspec import Struct
from rich.console import Console
from rich.text import Text


class Piece(Struct, frozen=True):
    """A part of an answer: what is said or, with `is_thought`, what was thought before."""

    text: str
    is_thought: bool = False


class AnswerPrinter:
    """Writes what is said to stdout, and what is thought, dimmed, to stderr, so that a pipe gets
    the answer alone. With `hide_reasoning` no thought is shown."""

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
        """Begins a new line after a thought. An answer may end before it is said."""
        if self._in_thought:
            self._thoughts.print()
            self._in_thought = False
