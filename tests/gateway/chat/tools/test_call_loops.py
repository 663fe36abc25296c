"""Answers that repeat their calls: the repetition ends the answer, whatever else goes on."""

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.chat.parsing.pieces import CallLoop, Content
from gateway.chat.tools.call_loops import MAX_SAME_CALLS, LoopGuard
from gateway.chat.tools.find_dialect import DIALECTS
from tests.kit.chat.answers import CHAT, HI, good, streamed_messages, whole_messages
from tests.kit.chat.cuts import calls_in, cut, places, read
from tests.kit.chat.tools import CALL, TOOLS, written
from tests.kit.serving import RunningServer, scripted_settings, server_of, wait_for

NAMES = ("f", "get_weather")
MARKED = [each for each in DIALECTS.values() if each.form is not None]

endless = server_of(scripted_settings(model={"tool_dialect": "hermes"}, text=f"{CALL}\n"))


def said(dialect_name: str, texts: Iterable[str]) -> tuple[str, list[tuple[str, str]], bool]:
    """Content, calls, and whether the answer loops. Nothing comes behind the end."""
    numbers = itertools.count()
    parser = DIALECTS[dialect_name].new_parser(
        {name: {} for name in NAMES}, lambda: f"call_{next(numbers)}", None
    )
    pieces = read(LoopGuard(parser), texts)
    loops = CallLoop() in pieces
    assert not loops or pieces.pop() == CallLoop()
    content = "".join(piece.text for piece in pieces if isinstance(piece, Content))
    return content, calls_in(pieces), loops


bare_calls = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(['{"a": 1}', '{"a": 12}', "{}"])),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60)
@given(calls=bare_calls, places=places)
def test_a_bare_call_comes_once(calls: list[tuple[str, str]], places: list[int]) -> None:
    """However the text is cut; what comes before the repetition is all there."""
    text = "\n".join(f'{{"name": "{name}", "arguments": {given}}}' for name, given in calls)
    unique = list(itertools.takewhile(lambda n: calls[n] not in calls[:n], range(len(calls))))
    expected = ("", calls[: len(unique)], len(unique) < len(calls))
    assert said("hermes", [text]) == expected
    assert said("hermes", cut(text, places)) == expected


@pytest.mark.parametrize("dialect", MARKED, ids=lambda each: each.name)
def test_a_call_with_its_marks_may_come_again_but_not_for_ever(dialect) -> None:
    """Also when others come in between."""
    one, other = ("f", '{"a": 1}'), ("f", '{"a": 10}')
    many = [one] * MAX_SAME_CALLS
    assert said(dialect.name, written(dialect, many)) == ("", many, False)
    assert said(dialect.name, written(dialect, [*many, other])) == ("", [*many, other], False)
    assert said(dialect.name, written(dialect, [*many, one, one])) == ("", many, True)
    turns = [one, other] * MAX_SAME_CALLS
    assert said(dialect.name, written(dialect, [*turns, one])) == ("", turns, True)


def test_a_repetition_that_was_cut_off_is_told() -> None:
    """Whether it would have been one, nobody knows."""
    call = '{"name": "f", "arguments": {"a": 1}}'
    assert said("hermes", f"{call}\n{call[:-3]}") == (
        "",
        [("f", '{"a": 1}'), ("f", '{"a": ')],
        False,
    )
    assert said("hermes", f"{call}\n{call[:-1]}") == ("", [("f", '{"a": 1}')], True)


@pytest.mark.parametrize("n", [1, 2])
def test_the_engine_is_freed_when_an_answer_loops(endless: RunningServer, n: int) -> None:
    """It would go on to the limit of the context."""
    body = {"messages": HI, "tools": TOOLS, "n": n, "ignore_eos": True}
    answer = good(endless.post(CHAT, **body))
    told = whole_messages(answer)
    assert streamed_messages(endless.chunks(CHAT, **body)) == told
    for message in told:
        assert message["finish_reason"] == "tool_calls"
        assert message["tool_calls"] == [{"name": "toss", "arguments": '{"sure": true}'}] * 8
    assert answer["usage"]["completion_tokens"] < 20 * n * len(CALL)
    wait_for(lambda: endless.metric("num_requests_running") == 0)
