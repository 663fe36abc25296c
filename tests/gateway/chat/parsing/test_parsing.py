"""Parsers between the engine's text and the client: pieces, their order, and what frames make of
them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.openai.writers.chat import ChatWriter
from gateway.api.openai.writers.logprobs import ChatLogprobsWriter
from gateway.chat.parsing.chain import Chain, PlainText
from gateway.chat.parsing.pieces import CallArguments, CallStart, Content, Parser, Piece, Reasoning
from gateway.generation.assembler import Assembler
from gateway.generation.events import OutputParsing
from gateway.generation.writer import Head
from runtime.messages.request import RequestOutput, TokenLogprobs
from runtime.tokenizers.load import load_tokenizer

HEAD = Head("chatcmpl-1", 1, "m", "fp")


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


class Upper(PlainText):
    """Makes content loud, and holds back its last letter."""

    held = ""

    def feed(self, text: str) -> list[Piece]:
        told, self.held = (self.held + text)[:-1], (self.held + text)[-1:]
        return [Content(told.upper())] if told else []

    def finish(self) -> list[Piece]:
        return [Content(self.held.upper())] if self.held else []


def chunks_of(frames: bytes) -> list[dict[str, Any]]:
    return [
        json.loads(event.removeprefix("data: ")) for event in frames.decode().split("\n\n")[:-1]
    ]


def fold(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """What a client makes of a stream of one choice."""
    message: dict[str, Any] = {"content": "", "reasoning_content": "", "tool_calls": []}
    for chunk in chunks:
        delta = chunk["choices"][0]["delta"]
        message["content"] += delta.get("content", "")
        message["reasoning_content"] += delta.get("reasoning_content", "")
        assert delta.get("reasoning_content") == delta.get("reasoning")
        for call in delta.get("tool_calls", ()):
            if "id" in call:
                assert call["index"] == len(message["tool_calls"])
                message["tool_calls"].append({k: v for k, v in call.items() if k != "index"})
                assert call["function"]["arguments"] == ""
            else:
                assert call.keys() == {"index", "function"}
                whole = message["tool_calls"][call["index"]]["function"]
                whole["arguments"] += call["function"]["arguments"]
    message["finish_reason"] = chunks[-1]["choices"][0]["finish_reason"]
    return message


def outputs_of(text: str, cuts: list[int], *, logprobs: bool) -> list[RequestOutput]:
    """Each character is a token of its own, in deltas that end at the cuts."""
    ends = [*sorted({cut for cut in cuts if 0 < cut < len(text)}), len(text)]
    outputs = []
    begin = 0
    for end in ends:
        token_ids = list(text[begin:end].encode())
        told = [TokenLogprobs(-0.5) for _ in token_ids] if logprobs else None
        reason = "stop" if end == len(text) else None
        outputs.append(RequestOutput("r", token_ids, text[begin:end], reason, logprobs=told))
        begin = end
    return outputs


texts = st.text("ab~#", min_size=1, max_size=20)


@given(texts, st.lists(st.integers(0, 20)), st.booleans())
def test_a_stream_of_pieces_says_what_the_whole_answer_says(text, cuts, logprobs):
    """Content, reasoning and calls, cut anywhere; every token is told once."""
    writer = ChatLogprobsWriter(load_tokenizer("")) if logprobs else None
    shape = ChatWriter(HEAD, logprobs=writer)
    assembler = Assembler(["r"], [3], parsing=OutputParsing(Markup))
    events = [e for o in outputs_of(text, cuts, logprobs=logprobs) for e in assembler.push([o])]
    chunks = chunks_of(shape.frames(events))
    choice = json.loads(shape.whole(assembler.result()))["choices"][0]
    message, folded = choice["message"], fold(chunks)
    assert (message["content"] or "") == folded["content"]
    assert message.get("reasoning_content", "") == folded["reasoning_content"]
    assert message.get("tool_calls", []) == folded["tool_calls"]
    assert choice["finish_reason"] == folded["finish_reason"]
    assert (choice["finish_reason"] == "tool_calls") == ("#" in text)
    assert (message["content"] is None) == ("#" in text and not folded["content"])
    told = [c["choices"][0]["logprobs"] for c in chunks]
    tokens = [entry["token"] for logprobs in told if logprobs for entry in logprobs["content"]]
    assert tokens == (list(text) if logprobs else [])
    whole = choice["logprobs"]
    assert (whole is None) == (not logprobs)
    assert whole is None or [entry["token"] for entry in whole["content"]] == tokens


def test_calls_in_the_form_of_functions() -> None:
    """For clients that send `functions`."""
    shape = ChatWriter(HEAD, legacy_calls=True)
    reading = OutputParsing(Markup, finish_reason_of_calls="function_call")
    assembler = Assembler(["r"], [3], parsing=reading)
    chunks = chunks_of(shape.frames(assembler.push(outputs_of("#ab", [1, 2], logprobs=False))))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[1:]]
    assert deltas == [
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
    assert PlainText().feed("") == PlainText().finish() == []
