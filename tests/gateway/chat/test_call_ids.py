"""Histories whose calls and results came without ids."""

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.openai.responses.protocol import decode_response_request, input_items
from gateway.api.openai.responses.turns import turns_of as response_turns
from gateway.api.openai.translate.messages import turns_of
from gateway.chat.call_ids import with_call_ids
from gateway.chat.conversation import Turn, TurnCall
from tests.kit.jobs import chat


def calls(*named: tuple[str, str]) -> Turn:
    return Turn("assistant", "", calls=tuple(TurnCall(each, name, {}) for each, name in named))


def result(call_id: str | None = None, name: str | None = None) -> Turn:
    return Turn("tool", "r", name, call_id=call_id)


def ids(*turns: Turn) -> list[Any]:
    found = with_call_ids(turns)
    return [turn.call_id if turn.role == "tool" else [c.id for c in turn.calls] for turn in found]


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([calls(("", "f")), result()], [["call_0"], "call_0"]),
        (
            [calls(("", "f"), ("", "g")), result(), result()],
            [["call_0", "call_1"], "call_0", "call_1"],
        ),
        (
            [calls(("", "f"), ("", "g")), result(name="g"), result()],
            [["call_0", "call_1"], "call_1", "call_0"],
        ),
        ([calls(("a", "f"), ("b", "g")), result("b"), result()], [["a", "b"], "b", "a"]),
        (
            [calls(("call_0", "f"), ("", "g")), result(), result()],
            [["call_0", "call_1"], "call_0", "call_1"],
        ),
        (
            [calls(("", "f")), result(), calls(("", "f")), result()],
            [["call_0"], "call_0", ["call_1"], "call_1"],
        ),
        ([calls(("", "f")), result(name="nobody")], [["call_0"], "call_0"]),
        ([result()], [None]),
        ([calls(("", "f")), result(), result()], [["call_0"], "call_0", None]),
        ([calls(("a", "f")), result("elsewhere"), result()], [["a"], "elsewhere", "a"]),
    ],
)
def test_a_result_without_an_id_belongs_to_the_next_call(turns: list[Turn], expected: list[Any]):
    assert ids(*turns) == expected


def test_what_has_its_ids_stays_as_it_is():
    turns = (Turn("user", "hi"), calls(("a", "f")), result("a"))

    assert with_call_ids(turns) is turns


CALLS = st.lists(
    st.tuples(st.sampled_from(["", "a", "b", "call_0"]), st.sampled_from("fg")), max_size=4
)


@given(st.lists(st.tuples(CALLS, st.integers(0, 5)), max_size=4))
def test_every_result_answers_another_call(history: list[tuple[list[tuple[str, str]], int]]):
    """Ids of calls that came without are new, and each result takes one call's."""
    turns: list[Turn] = []
    for made, number in history:
        turns += [calls(*made), *[result() for _ in range(number)]]
    told = {each for made, _ in history for each, _ in made}
    found = with_call_ids(turns)

    made_up = [c.id for t in found for c in t.calls if c.id not in told]
    assert "" not in [c.id for t in found for c in t.calls]
    assert max(Counter(made_up).values(), default=1) == 1
    waiting: list[str] = []
    for turn in found:
        if turn.role == "tool":
            assert turn.call_id == (waiting.pop(0) if waiting else None)
        elif turn.calls:
            waiting = list(dict.fromkeys(call.id for call in turn.calls))


CALL = {"type": "function", "function": {"name": "f", "arguments": None}}


@pytest.mark.parametrize("nothing", [{}, {"id": None}, {"id": ""}])
@pytest.mark.parametrize("told", [{}, {"tool_call_id": None}, {"tool_call_id": ""}])
@pytest.mark.parametrize("content", ["r", None, []])
def test_a_chat_without_ids(nothing: dict[str, Any], told: dict[str, Any], content: Any):
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [], "tool_calls": [{**CALL, **nothing}]},
        {"role": "tool", "content": content, **told},
    ]
    _, asked, answered = turns_of(chat(messages=messages).messages)

    assert [(call.id, call.name, call.arguments) for call in asked.calls] == [("call_0", "f", {})]
    assert (answered.call_id, answered.text) == ("call_0", content or "")


def test_blocks_of_anthropic_without_ids():
    messages = [
        {"role": "assistant", "content": [{"type": "tool_use", "name": "f", "input": None}]},
        {"role": "user", "content": [{"type": "tool_result", "content": "r"}]},
    ]
    asked, answered = turns_of(chat(messages=messages).messages)

    assert [asked.calls[0].id, answered.call_id] == ["call_0", "call_0"]
    assert asked.calls[0].arguments == {}


def test_a_response_without_ids():
    items = [
        {"type": "function_call", "name": "f", "arguments": None, "call_id": None},
        {"type": "function_call_output", "output": None},
    ]
    data = decode_response_request(msgspec.json.encode({"input": items}))
    asked, answered = response_turns(None, (), input_items(data))

    assert [asked.calls[0].id, answered.call_id] == ["call_0", "call_0"]
    assert (asked.calls[0].arguments, answered.text) == ({}, "")
