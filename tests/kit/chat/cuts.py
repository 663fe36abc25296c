"""Texts and answers cut at any place, and what parsers say of them put together again."""

import itertools
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import pytest
from hypothesis import strategies as st

from gateway.chat.parsing.pieces import (
    CallArguments,
    CallLoop,
    CallStart,
    Content,
    Parser,
    Piece,
    Reasoning,
)
from gateway.chat.tools.dialect import Dialect
from gateway.generation.events import OutputParsing
from runtime.messages.request import RequestOutput, TokenLogprobs
from runtime.tokenizers.load import load_tokenizer

TOKENIZER = load_tokenizer("")
"""A byte a token."""

NUM_CACHED = 3
places = st.lists(st.integers(0, 400), max_size=12)

S = TypeVar("S", str, bytes, list[int])


def cut(whole: S, places: Iterable[int]) -> list[S]:
    """The parts between these places, which begin anew behind the end."""
    inner = {place % len(whole) for place in places} - {0} if whole else set()
    borders = [0, *sorted(inner), len(whole)]
    return [whole[begin:end] for begin, end in pairwise(borders)]


def deltas(
    name: str, text: str, places: Iterable[int], reason: Any, logprobs: bool
) -> list[RequestOutput]:
    """An answer as an engine's deltas: text comes with the last token of its characters."""
    outputs, end, told = [], 0, 0
    data = text.encode()
    for part in cut(data, places):
        end += len(part)
        so_far = data[:end].decode(errors="ignore")
        scores = [TokenLogprobs(-(byte + 1) / 8) for byte in part] if logprobs else None
        last = reason if end == len(data) else None
        outputs.append(
            RequestOutput(name, list(part), so_far[told:], last, None, NUM_CACHED, logprobs=scores)
        )
        told = len(so_far)
    return outputs


class Markup:
    """A toy dialect of one-letter marks: `#` begins a call, `~` turns thinking on and off."""

    def __init__(self) -> None:
        self._thinks = False
        self._number = -1

    def feed(self, text: str) -> list[Piece]:
        return [piece for letter in text if (piece := self._read(letter)) is not None]

    def finish(self) -> list[Piece]:
        return []

    def _read(self, letter: str) -> Piece | None:
        if letter == "~":
            self._thinks = not self._thinks
            return None
        if letter == "#":
            self._number += 1
            return CallStart(self._number, f"call_{self._number}", "f")
        if self._thinks:
            return Reasoning(letter)
        return Content(letter) if self._number < 0 else CallArguments(self._number, letter)


def parsing_of(dialect: Dialect) -> OutputParsing:
    """Of answers that may call `f`."""
    numbers = itertools.count()
    return OutputParsing(
        lambda: dialect.new_parser({"f": {}}, lambda: f"call_{next(numbers)}", None)
    )


def slow_but_for(names: Iterable[str], *fast: str) -> list[Any]:
    """All of them as parameters, of which the fast tests take these few alone."""
    slow = pytest.mark.slow
    return [name if name in fast else pytest.param(name, marks=slow) for name in names]


def read(parser: Parser, texts: Iterable[str]) -> list[Piece]:
    """All that a parser says of a text; none of it is empty, and neighbours of one kind are one."""
    pieces: list[Piece] = []
    for piece in [*(piece for text in texts for piece in parser.feed(text)), *parser.finish()]:
        match pieces[-1] if pieces else None, piece:
            case (Content(before), Content(text)) if text:
                pieces[-1] = Content(before + text)
            case (Reasoning(before), Reasoning(text)) if text:
                pieces[-1] = Reasoning(before + text)
            case (CallArguments(number, before), CallArguments(other, text)) if number == other:
                assert text
                pieces[-1] = CallArguments(number, before + text)
            case _:
                assert isinstance(piece, CallStart | CallLoop) or piece.text
                pieces.append(piece)
    return pieces


def calls_in(pieces: Sequence[Piece]) -> list[tuple[str, str]]:
    """Names and arguments of the calls, which come in order."""
    calls: list[tuple[str, str]] = []
    for piece in pieces:
        if isinstance(piece, CallStart):
            assert piece.number == len(calls)
            calls.append((piece.name, ""))
        elif isinstance(piece, CallArguments):
            assert piece.number == len(calls) - 1
            calls[-1] = (calls[-1][0], calls[-1][1] + piece.text)
    return calls
