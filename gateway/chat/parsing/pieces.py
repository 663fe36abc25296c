"""What an answer's text is made of once it has been read."""

from typing import Protocol, TypeAlias

from msgspec import Struct


class Content(Struct, frozen=True, gc=False):
    """Words for the reader; never empty."""

    text: str


class Reasoning(Struct, frozen=True, gc=False):
    """What the model thought before it answered; never empty."""

    text: str


class CallStart(Struct, frozen=True, gc=False):
    """A tool call begins. `number` counts the calls of one choice from 0."""

    number: int
    id: str
    name: str


class CallArguments(Struct, frozen=True, gc=False):
    """More of the JSON of a call's arguments; never empty."""

    number: int
    text: str


Piece: TypeAlias = Content | Reasoning | CallStart | CallArguments


class Parser(Protocol):
    """Reads the text of one choice as it comes.

    The pieces of all calls, those of the same kind joined, do not depend on how the text was cut.
    """

    def feed(self, text: str) -> list[Piece]:
        """What this text says, as far as it is certain already; may be empty."""
        ...

    def finish(self) -> list[Piece]:
        """What is left when nothing more comes."""
        ...
