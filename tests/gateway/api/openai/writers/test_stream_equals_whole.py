"""From the engine's deltas to the bytes of the stream: however a chat's answer is cut, it says what
the whole answer says. Content, calls in each dialect, log-probabilities, finish reasons, usage."""

import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.api.openai.writers.chat import ChatWriter
from gateway.api.openai.writers.logprobs import ChatLogprobsWriter
from gateway.chat.tools.dialect import Dialect
from gateway.chat.tools.find_dialect import DIALECTS
from gateway.generation.assembler import Assembler
from gateway.generation.events import OutputParsing
from gateway.generation.writer import Head
from runtime.messages.request import RequestOutput, TokenLogprobs
from runtime.tokenizers.load import load_tokenizer
from tests.gateway.chat.parsing.test_parsing import chunks_of

HEAD = Head("chatcmpl-1", 1, "m", "fp")
TOKENIZER = load_tokenizer("")
NUM_PROMPT, NUM_CACHED = 7, 3
ARGUMENTS = '{"city": "Zü\\n", "n": [1, {"a": "}"}]}'
WRITTEN = {name: dialect for name, dialect in DIALECTS.items() if dialect.form is not None}

Deltas = Sequence[RequestOutput]


def call_text(dialect: Dialect, num_calls: int) -> str:
    """Calls as a grammar would have the model write them."""
    form = dialect.form
    assert form is not None
    calls = form.separator.join([form.begin("f") + ARGUMENTS + form.end] * num_calls)
    return form.opening + calls + form.close


def deltas(name: str, text: str, cuts: Sequence[int], reason: Any, logprobs: bool) -> Deltas:
    """A byte a token. Like the engine's: text comes with the last token of its characters."""
    data = text.encode()
    ends = [*sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
    outputs, told = [], 0
    for begin, end in zip([0, *ends], ends, strict=False):
        so_far = data[:end].decode(errors="ignore")
        ids = list(data[begin:end])
        scores = [TokenLogprobs(-(byte + 1) / 8) for byte in ids] if logprobs else None
        last = reason if end == len(data) else None
        outputs.append(
            RequestOutput(name, ids, so_far[told:], last, None, NUM_CACHED, logprobs=scores)
        )
        told = len(so_far)
    return outputs


def new_choice() -> dict[str, Any]:
    return {"content": "", "calls": [], "logprobs": [], "reason": None}


def fold(chunks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a client makes of the stream."""
    made: dict[int, dict[str, Any]] = {}
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        mine = made.setdefault(choice["index"], new_choice())
        assert mine["reason"] is None, "nothing comes after the reason"
        delta, mine["reason"] = choice["delta"], choice["finish_reason"]
        mine["content"] += delta.get("content", "")
        mine["logprobs"] += (choice["logprobs"] or {"content": []})["content"]
        for part in delta.get("tool_calls", ()):
            if "id" in part:
                assert part["index"] == len(mine["calls"])
                mine["calls"].append([part["id"], part["function"]["name"], ""])
            else:
                mine["calls"][part["index"]][2] += part["function"]["arguments"]
    return [made[index] for index in sorted(made)]


def whole(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The same of the answer in one piece."""
    return [
        {
            "content": choice["message"]["content"] or "",
            "calls": [
                [call["id"], call["function"]["name"], call["function"]["arguments"]]
                for call in choice["message"].get("tool_calls", ())
            ],
            "logprobs": (choice["logprobs"] or {"content": []})["content"],
            "reason": choice["finish_reason"],
        }
        for choice in answer["choices"]
    ]


def reading(dialect: Dialect) -> OutputParsing:
    numbers = itertools.count()
    return OutputParsing(lambda: dialect.new_parser(("f",), lambda: f"call_{next(numbers)}", None))


def check(
    dialect: Dialect, queues: Sequence[Deltas], logprobs: bool, pick: Callable[[list[int]], int]
) -> list[dict[str, Any]]:
    """Streams the choices, interleaved as `pick` says, and compares; what each choice said."""
    names = [f"r{index}" for index in range(len(queues))]
    assembler = Assembler(names, [NUM_PROMPT], parsing=reading(dialect))
    logprobs_writer = ChatLogprobsWriter(TOKENIZER) if logprobs else None
    writer = ChatWriter(HEAD, include_usage=True, logprobs=logprobs_writer)
    waiting, frames = [list(queue) for queue in queues], b""
    while open_ones := [index for index, queue in enumerate(waiting) if queue]:
        frames += writer.frames(assembler.push([waiting[pick(open_ones)].pop(0)]))
    chunks = chunks_of(frames)
    answer = json.loads(writer.whole(assembler.result()))
    said = whole(answer)
    assert fold(chunks) == said
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == answer["usage"]
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    num_tokens = sum(len(output.token_ids) for queue in queues for output in queue)
    assert answer["usage"]["prompt_tokens"] == NUM_PROMPT
    assert answer["usage"]["completion_tokens"] == num_tokens
    assert answer["usage"]["total_tokens"] == NUM_PROMPT + num_tokens
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


@pytest.mark.parametrize("name", WRITTEN)
@settings(max_examples=25, deadline=None)
@given(choices=choices, logprobs=st.booleans(), data=st.data())
def test_random_answers_cut_at_random(name: str, choices: Any, logprobs: bool, data: Any):
    """Text that may look like a call, then calls or none; several choices, interleaved."""
    dialect = DIALECTS[name]
    queues = []
    for index, (text, num_calls, cuts, reason) in enumerate(choices):
        calls = call_text(dialect, num_calls) if num_calls else ""
        said = (text + calls).replace("CALL", call_text(dialect, 1)) or "x"
        queues.append(deltas(f"r{index}", said, cuts, reason, logprobs))
    said = check(dialect, queues, logprobs, lambda ready: data.draw(st.sampled_from(ready)))
    for choice, (_, _, _, reason) in zip(said, choices, strict=True):
        called = reason == "stop" and bool(choice["calls"])
        assert choice["reason"] == ("tool_calls" if called else reason)


@pytest.mark.parametrize("logprobs", [False, True])
@pytest.mark.parametrize("name", WRITTEN)
def test_one_answer_cut_at_every_place(name: str, logprobs: bool):
    """Inside marks, names, arguments and characters: always the same answer."""
    dialect = DIALECTS[name]
    form = dialect.form
    assert form is not None
    text = ("" if form.at_start else "Sö. ") + call_text(dialect, 2)
    size = len(text.encode())
    for cut in range(1, size):
        [said] = check(dialect, [deltas("r0", text, [cut], "stop", logprobs)], logprobs, min)
        assert [call[1:] for call in said["calls"]] == [["f", ARGUMENTS]] * 2
        assert said["reason"] == "tool_calls"
    [single] = check(dialect, [deltas("r0", text, range(size), "stop", logprobs)], logprobs, min)
    assert [call[1:] for call in single["calls"]] == [["f", ARGUMENTS]] * 2
