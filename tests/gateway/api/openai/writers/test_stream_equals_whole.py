"""From the engine's deltas to the bytes of the stream: however a chat's answer is cut, it says what
the whole answer says. Content, calls in each dialect, log-probabilities, finish reasons, usage."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.api.openai.writers.chat import ChatWriter
from gateway.api.openai.writers.logprobs import ChatLogprobsWriter
from gateway.chat.tools.find_dialect import DIALECTS
from gateway.generation.assembler import Assembler
from gateway.generation.events import OutputParsing
from gateway.generation.writer import Head
from runtime.messages.request import RequestOutput
from tests.kit.chat.answers import chunks_of, streamed_messages, whole_messages
from tests.kit.chat.cuts import (
    NUM_CACHED,
    TOKENIZER,
    Markup,
    deltas,
    parsing_of,
    places,
    slow_but_for,
)
from tests.kit.chat.tools import written

HEAD = Head("chatcmpl-1", 1, "m", "fp")
NUM_PROMPT = 7
ARGUMENTS = '{"city": "Zü\\n", "n": [1, {"a": "}"}]}'
WRITTEN = {name: dialect for name, dialect in DIALECTS.items() if dialect.form is not None}


def check(
    parsing: OutputParsing,
    queues: Sequence[Sequence[RequestOutput]],
    logprobs: bool,
    pick: Callable[[list[int]], int] = min,
) -> list[dict[str, Any]]:
    """Streams the choices, interleaved as `pick` says, and compares; what each choice said."""
    names = [f"r{index}" for index in range(len(queues))]
    assembler = Assembler(names, [NUM_PROMPT], parsing=parsing)
    logprobs_writer = ChatLogprobsWriter(TOKENIZER) if logprobs else None
    writer = ChatWriter(HEAD, include_usage=True, logprobs=logprobs_writer)
    waiting, frames = [list(queue) for queue in queues], b""
    while open_ones := [index for index, queue in enumerate(waiting) if queue]:
        frames += writer.frames(assembler.push([waiting[pick(open_ones)].pop(0)]))
    chunks = chunks_of(frames)
    answer = json.loads(writer.whole(assembler.result()))
    said = whole_messages(answer, exact=True)
    assert streamed_messages(chunks, exact=True) == said
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == (usage := answer["usage"])
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    num_tokens = sum(len(output.token_ids) for queue in queues for output in queue)
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (NUM_PROMPT, num_tokens)
    assert usage["total_tokens"] == NUM_PROMPT + num_tokens
    assert usage["prompt_tokens_details"]["cached_tokens"] == NUM_CACHED
    assert sum(len(choice["logprobs"]) for choice in said) == (num_tokens if logprobs else 0)
    return said


texts = st.lists(
    st.text("abü狐 <{[", max_size=6) | st.sampled_from(["<tool_call>", "CALL", '{"name": "f"'])
)
choices = st.lists(
    st.tuples(
        texts.map("".join),
        st.integers(0, 2),
        st.lists(st.integers(1, 200), max_size=8),
        st.sampled_from(["stop", "length"]),
    ),
    min_size=1,
    max_size=3,
)


@pytest.mark.parametrize("name", slow_but_for(WRITTEN, "hermes", "mistral"))
@settings(max_examples=25, deadline=None)
@given(choices=choices, logprobs=st.booleans(), data=st.data())
def test_random_answers_cut_at_random(name: str, choices: Any, logprobs: bool, data: Any):
    """Text that may look like a call, then calls or none; several choices, interleaved."""
    dialect = DIALECTS[name]
    queues = []
    for index, (text, num_calls, cuts, reason) in enumerate(choices):
        calls = written(dialect, [("f", ARGUMENTS)] * num_calls) if num_calls else ""
        said = (text + calls).replace("CALL", written(dialect, [("f", ARGUMENTS)])) or "x"
        queues.append(deltas(f"r{index}", said, cuts, reason, logprobs))
    pick = lambda ready: data.draw(st.sampled_from(ready))  # noqa: E731
    told = check(parsing_of(dialect), queues, logprobs, pick)
    for choice, (_, _, _, reason) in zip(told, choices, strict=True):
        called = reason == "stop" and bool(choice["tool_calls"])
        assert choice["finish_reason"] == ("tool_calls" if called else reason)


@pytest.mark.parametrize("logprobs", [False, True])
@pytest.mark.parametrize("name", slow_but_for(WRITTEN, "hermes", "mistral"))
def test_one_answer_cut_at_every_place(name: str, logprobs: bool):
    """Inside marks, names, arguments and characters: always the same answer."""
    dialect = DIALECTS[name]
    assert dialect.form is not None
    text = ("" if dialect.form.at_start else "Sö. ") + written(dialect, [("f", ARGUMENTS)] * 2)
    size = len(text.encode())
    for cuts in (*([place] for place in range(1, size)), range(size)):
        queue = deltas("r0", text, cuts, "stop", logprobs)
        [said] = check(parsing_of(dialect), [queue], logprobs)
        calls = [(call["name"], call["arguments"]) for call in said["tool_calls"]]
        assert (calls, said["finish_reason"]) == ([("f", ARGUMENTS)] * 2, "tool_calls")


@given(st.text("ab~#", min_size=1, max_size=20), places, st.booleans())
def test_thoughts_and_calls_of_a_toy_dialect(text: str, cuts: list[int], logprobs: bool):
    queue = deltas("r0", text, cuts, "stop", logprobs)
    [said] = check(OutputParsing(Markup), [queue], logprobs)
    assert (said["finish_reason"] == "tool_calls") == ("#" in text)
    assert [entry["token"] for entry in said["logprobs"]] == (list(text) if logprobs else [])
    told = said["content"] + said["reasoning"] + "".join(c["arguments"] for c in said["tool_calls"])
    assert sorted(told) == sorted(text.replace("~", "").replace("#", ""))
