"""Parsers between the engine's text and the client: pieces, their order, and what frames make of
them."""

import json
from typing import Any

import pytest

from gateway.api.openai.writers.chat import ChatWriter
from gateway.chat.parsing.chain import Chain
from gateway.chat.parsing.pieces import Content, Parser, Piece, Reasoning
from gateway.chat.tools.dialects.hermes import HERMES
from gateway.generation.assembler import Assembler
from gateway.generation.events import OutputParsing
from gateway.generation.writer import Head
from runtime.messages.request import RequestOutput
from tests.kit.chat.answers import chunks_of
from tests.kit.chat.cuts import Markup, deltas, parsing_of

HEAD = Head("chatcmpl-1", 1, "m", "fp")


class Upper:
    """Makes content loud, and holds back its last letter."""

    held = ""

    def feed(self, text: str) -> list[Piece]:
        told, self.held = (self.held + text)[:-1], (self.held + text)[-1:]
        return [Content(told.upper())] if told else []

    def finish(self) -> list[Piece]:
        return [Content(self.held.upper())] if self.held else []


def test_calls_in_the_form_of_functions() -> None:
    """For clients that send `functions`."""
    shape = ChatWriter(HEAD, legacy_calls=True)
    reading = OutputParsing(Markup, finish_reason_of_calls="function_call")
    assembler = Assembler(["r"], [3], parsing=reading)
    chunks = chunks_of(shape.frames(assembler.push(deltas("r", "#ab", [1, 2], "stop", False))))
    assert [chunk["choices"][0]["delta"] for chunk in chunks[1:]] == [
        {"function_call": {"name": "f", "arguments": ""}},
        {"function_call": {"arguments": "a"}},
        {"function_call": {"arguments": "b"}},
        {},
    ]
    choice = json.loads(shape.whole(assembler.result()))["choices"][0]
    assert choice["message"]["function_call"] == {"name": "f", "arguments": "ab"}
    assert "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "function_call"


@pytest.mark.parametrize("reason", ["stop", "length"])
def test_an_answer_that_was_cut_says_so(reason: Any) -> None:
    """`length` is never hidden behind a call."""
    assembler = Assembler(["r"], [3], parsing=OutputParsing(Markup))
    assembler.push([RequestOutput("r", [1], "#a", reason)])
    assert assembler.finish_reasons == ["tool_calls" if reason == "stop" else "length"]


def test_parsers_one_behind_the_other() -> None:
    """The second one reads content alone, and tells at the end what it has held back."""
    parser: Parser = Chain(Markup(), Upper())
    assert parser.feed("a~b~c") == [Reasoning("b"), Content("A")]
    assert parser.feed("") == []
    assert parser.finish() == [Content("C")]


@pytest.mark.parametrize(
    ("said", "stop_reason", "reason"),
    [
        ('{"name": "f", "arguments": {"a": "x', "STOP", "stop"),
        ('{"name": "f", "arguments": {', "[", "stop"),
        ('{"name": "f", "arguments": {"a": "x"}}', "</tool_call>", "tool_calls"),
        ('{"name": "f", "arguments": {"a": "x"}}</tool_call>', None, "tool_calls"),
    ],
)
def test_a_call_that_a_stop_string_cuts_is_no_call_to_make(
    said: str, stop_reason: str | None, reason: str
) -> None:
    assembler = Assembler(["r"], [3], parsing=parsing_of(HERMES))
    assembler.push([RequestOutput("r", [1], f"<tool_call>{said}", "stop", stop_reason=stop_reason)])
    assert assembler.finish_reasons == [reason]
    assert [call.name for call in assembler.result().choices[0].calls] == ["f"]
