"""The pieces that an answer's text is parsed into."""

from typing import Protocol, TypeAlias

from msgspec import Struct


class Content(Struct, frozen=True, gc=False):
    """Text for the user; never empty."""

    text: str


class Reasoning(Struct, frozen=True, gc=False):
    """Reasoning that precedes the answer; never empty."""

    text: str


class CallStart(Struct, frozen=True, gc=False):
    """A tool call begins. `number` counts the calls of one choice from 0. With `is_bare` the call
    follows another one without any mark or separator."""

    number: int
    id: str
    name: str
    is_bare: bool = False


class CallArguments(Struct, frozen=True, gc=False):
    """More of the JSON of a call's arguments; never empty."""

    number: int
    text: str


class CallLoop(Struct, frozen=True, gc=False):
    """The answer repeats its calls, so it ends here."""


Piece: TypeAlias = Content | Reasoning | CallStart | CallArguments | CallLoop


class Parser(Protocol):
    """Parses the text of one choice as it arrives.

    The pieces from all `feed` calls, adjacent pieces of the same kind joined, do not depend on how
    the text was cut.
    """

    def feed(self, text: str) -> list[Piece]:
        """The pieces that are certain after this text; may be empty."""
        ...

    def finish(self) -> list[Piece]:
        """The remaining pieces at the end of the text."""
        ...
