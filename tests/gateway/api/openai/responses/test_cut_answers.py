"""Answers of models cut anywhere become the same items."""

import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.api.openai.responses.protocol import (
    decode_response_request,
)
from gateway.api.openai.responses.writer import ResponseWriter, new_response
from gateway.api.openai.writers.logprobs import ChatLogprobsWriter
from gateway.chat.parsing.pieces import Parser
from gateway.chat.reasoning.formats import FORMATS, new_parser
from gateway.chat.tools.dialects.hermes import HERMES
from gateway.generation.assembler import Assembler
from gateway.generation.events import OutputParsing
from tests.kit.chat.cuts import TOKENIZER, deltas
from tests.kit.openai.responses import (
    CALL,
    HEAD,
    fold,
    parse,
    without_ids,
)
from tests.kit.openai.schemas import (
    check_response,
)


def thinking_parser() -> Parser:
    numbers = itertools.count()
    calls = HERMES.new_parser(("f",), lambda: f"call_{next(numbers)}", None)
    return new_parser(FORMATS["deepseek_r1"], "inside", calls)


def run(text: str, cuts: Sequence[int], reason: str, logprobs: bool) -> dict[str, Any]:
    """Streams an answer and has it whole, from the same deltas; what it says."""
    answers = []
    for streams in (True, False):
        assembler = Assembler(["r0"], [7], parsing=OutputParsing(thinking_parser))
        writer = ChatLogprobsWriter(TOKENIZER) if logprobs else None
        data = decode_response_request(b'{"model": "m", "input": "hi"}')
        shape = ResponseWriter(new_response(data, [], HEAD, is_stored=False), writer)
        frames = b""
        for output in deltas("r0", text, cuts, reason, logprobs):
            events = assembler.push([output])
            if streams:
                frames += shape.frames(events)
            else:
                shape.take(events)
        answers.append(
            fold(parse(frames.decode())) if streams else json.loads(shape.whole(assembler.result()))
        )
    streamed, whole = map(without_ids, answers)
    check_response(answers[1])
    assert streamed == whole
    return streamed


TEXT = f"Hm, ü.</think>Sö. {CALL}\n{CALL}"


@pytest.mark.slow
@pytest.mark.parametrize("logprobs", [False, True])
def test_one_answer_cut_at_every_place(logprobs: bool):
    size = len(TEXT.encode())
    expected = run(TEXT, [], "stop", logprobs)
    kinds = [item["type"] for item in expected["output"]]
    assert kinds == ["reasoning", "message", "function_call", "function_call"]
    for cut in range(1, size, 1 if not logprobs else 7):
        assert run(TEXT, [cut], "stop", logprobs) == expected
    assert run(TEXT, range(size), "stop", logprobs) == expected
    told = expected["output"][1]["content"][0]["logprobs"]
    assert len(told) == (size if logprobs else 0)


pieces = st.sampled_from(["a", "狐", " ", "</think>", "<think>", CALL, "<tool_call>", "{"])


@settings(max_examples=60, deadline=None)
@given(
    text=st.lists(pieces, min_size=1, max_size=6).map("".join),
    cuts=st.lists(st.integers(1, 300), max_size=6),
    reason=st.sampled_from(["stop", "length"]),
    logprobs=st.booleans(),
)
def test_random_answers_cut_at_random(text: str, cuts: list[int], reason: str, logprobs: bool):
    said = run(text, cuts, reason, logprobs)

    assert said == run(text, [], reason, logprobs)
    assert said["status"] == ("completed" if reason == "stop" else "incomplete")
    assert said["output"]
