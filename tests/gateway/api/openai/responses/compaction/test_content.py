"""What compaction items carry, and what becomes of the items that they stand for."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.openai.responses.compaction.content import PREFIX, Summary, read, written
from gateway.api.openai.responses.compaction.replay import Placed, replayed
from gateway.api.openai.responses.compaction.summary import (
    Split,
    continued,
    last_messages,
    split,
    summary_of,
    summary_turn,
)
from gateway.api.openai.responses.protocol import InputCompaction, InputItem, InputMessage
from gateway.chat.conversation import Conversation, Turn, TurnCall
from gateway.chat.shortening import num_items
from runtime.errors import InvalidRequest
from tests.kit.chat.conversations import conversations

summaries = st.builds(
    Summary,
    st.text(),
    messages=st.lists(st.text(), max_size=3).map(tuple),
    num_kept=st.integers(0, 100),
)


@given(summaries)
def test_a_summary_comes_back_as_it_was(summary: Summary):
    assert read(written(summary), "x") == summary


PLACE = "input[3].encrypted_content"


def outcome(content: str) -> Summary | InvalidRequest:
    try:
        return read(content, PLACE)
    except InvalidRequest as error:
        return error


@given(summaries, st.data())
def test_a_damaged_item_is_refused_by_its_place(summary: Summary, data: st.DataObject):
    content = written(summary)
    place = data.draw(st.integers(0, len(content) - 1))
    letter = data.draw(st.sampled_from("aZ09-.= é"))
    damaged = data.draw(
        st.sampled_from(
            [content[:place], content[:place] + letter + content[place + 1 :], letter + content]
        )
    )
    found = outcome(damaged)
    if isinstance(found, InvalidRequest):
        assert found.param == PLACE
        assert f"`{PLACE}`" in str(found)
    else:
        assert found == summary
    if damaged[: len(PREFIX)] != PREFIX or len(damaged) < len(content) - 2:
        assert isinstance(found, InvalidRequest)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("gAAAAABo", "not written by this server"),
        ("lockgate.2.AAAA", "another version"),
        ("lockgate.1.", "damaged"),
        ("lockgate.1.A", "damaged"),
        ("lockgate.1." + base64.urlsafe_b64encode(bytes(16) + b"{}").decode(), "damaged"),
    ],
)
def test_what_cannot_be_read_says_why(content: str, reason: str):
    with pytest.raises(InvalidRequest, match=reason):
        read(content, "input[0].encrypted_content")


def message(text: str, role: str = "user") -> InputMessage:
    return InputMessage(role=role, content=text)  # type: ignore[arg-type]


def compaction(summary: Summary) -> InputCompaction:
    return InputCompaction(type="compaction", encrypted_content=written(summary))


def read_items(*items: InputItem) -> list[object]:
    placed = [Placed(f"input[{index}]", item) for index, item in enumerate(items)]
    return [each.item for each in replayed(placed)]


SYSTEM = message("Be short.", "developer")


def test_a_summary_stands_for_what_was_before_it():
    first, summary = Summary("first"), Summary("second", num_kept=2)
    items = [
        *(message("1"), SYSTEM, message("2"), compaction(first)),
        *(message("3"), message("4"), message("5")),
    ]
    later = message("6")

    assert read_items(*items, compaction(summary), later) == [
        *(SYSTEM, summary, items[5], items[6], later)
    ]


def test_kept_items_may_be_gone():
    summary = Summary("s", num_kept=9)
    assert read_items(message("1"), compaction(summary)) == [summary, message("1")]
    assert read_items(compaction(summary)) == [summary]


def test_kept_items_are_counted_without_earlier_summaries():
    items = [message("1"), message("2"), compaction(Summary("old", num_kept=1)), message("3")]
    summary = Summary("new", num_kept=2)
    assert read_items(*items, compaction(summary)) == [summary, items[1], items[3]]


def test_a_dropped_question_is_told_with_the_summary():
    rounds = [
        turn
        for number in range(4)
        for turn in (
            Turn("assistant", "", calls=(TurnCall(f"c{number}", "f", {}),), num_items=2),
            Turn("tool", "rain " * 20, call_id=f"c{number}"),
        )
    ]
    turns = [Turn("user", "Find it."), *rounds]
    parts = split(turns, 150)

    assert parts == Split(turns[:-2], turns[-2:], ("Find it.",))
    summary = summary_of(parts, "I have looked.")
    assert summary == Summary("I have looked.", messages=("Find it.",), num_kept=3)
    assert "Find it." in summary_turn(summary).text
    assert summary_turn(summary).is_kept


def test_nothing_is_summed_up_twice_alone():
    summary = summary_turn(Summary("s"))
    turns = [Turn("system", "s"), summary, Turn("user", "x" * 900)]
    assert split(turns, 10) is None
    assert split([Turn("user", "x" * 900)], 10) is None


@given(conversations(), st.integers(0, 3000))
def test_a_split_loses_no_turn(turns: list[Turn], num_bytes: int):
    parts = split(turns, num_bytes)
    if parts is None:
        return
    assert [*parts.before, *parts.kept] == turns
    assert any(turn.role != "system" for turn in parts.before)
    summary = summary_of(parts, "s")
    assert summary.num_kept == num_items(parts.kept)
    found = continued(Conversation(turns=tuple(turns)), parts, summary).turns
    assert [each for each in found if each.role == "system"] == [
        each for each in turns if each.role == "system"
    ]
    assert found[len(found) - len(parts.kept) :] == tuple(parts.kept)
    asked = [turn.text for turn in turns if turn.role == "user"]
    texts = [turn.text for turn in found if turn.role == "user"]
    assert not asked or asked[-1] in texts or summary.messages == (asked[-1],)


def test_the_last_messages_are_those_that_fit():
    turns = [Turn("user", "a" * 84), Turn("assistant", "b" * 900), Turn("user", "c" * 84)]

    assert last_messages(turns, 200) == ("a" * 84, "c" * 84)
    assert last_messages(turns, 199) == ("c" * 84,)
    assert last_messages(turns, 99) == ()
    assert last_messages([summary_turn(Summary("s")), *turns], 100) == ("c" * 84,)
