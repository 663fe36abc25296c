"""Where conversations may be cut, and what is left of them."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.chat.conversation import Turn, TurnCall
from gateway.chat.shortening import cuts, kept_from, last_turns, num_items, sizes, stays
from tests.kit.chat.conversations import conversations


def user(text: str) -> Turn:
    return Turn("user", text)


def answer(text: str, *calls: str) -> Turn:
    return Turn("assistant", text, calls=tuple(TurnCall(each, "f", {}) for each in calls))


def result(call_id: str) -> Turn:
    return Turn("tool", "rain", call_id=call_id)


SYSTEM = Turn("system", "Be short.")


def test_a_cut_is_in_front_of_a_question():
    turns = [SYSTEM, user("1"), answer("a"), user("2"), answer("b"), user("3")]

    assert cuts(turns) == [0, 3, 5]
    assert kept_from(turns, 3) == (SYSTEM, *turns[3:])
    assert last_turns(turns) == (SYSTEM, turns[5])


def test_messages_of_the_system_stay_where_they_are():
    later = Turn("system", "Be long.")
    turns = [SYSTEM, user("1"), later, answer("a"), user("2"), user("3")]

    assert kept_from(turns, 5) == (SYSTEM, later, turns[5])


def test_rounds_of_calls_can_be_dropped_and_their_question_stays():
    turns = [
        *(user("1"), answer("a"), user("2")),
        *(answer("", "c1"), result("c1")),
        *(answer("", "c2", "c3"), result("c2"), result("c3")),
        *(answer("done"), user("3")),
    ]

    assert cuts(turns) == [0, 2, 5, 8, 9]
    assert kept_from(turns, 5) == tuple(turns[2:3] + turns[5:])
    assert kept_from(turns, 9) == (turns[9],)


def test_a_call_and_its_late_result_stay_together():
    turns = [user("1"), answer("", "c"), user("hurry"), result("c"), answer("a"), user("2")]

    assert cuts(turns) == [0, 4, 5]
    assert kept_from(turns, 4) == tuple(turns[2:3] + turns[4:])


def test_ids_of_calls_may_be_used_again():
    turn = [user("1"), answer("", "c"), result("c"), answer("a")]

    assert cuts([*turn, *turn, *turn]) == [0, 3, 4, 7, 8, 11]


def test_a_summary_is_never_dropped():
    summary = Turn("user", "What was said.", is_kept=True)
    turns = [summary, answer("a"), user("2"), answer("b"), user("3")]

    assert last_turns(turns) == (summary, turns[4])


@given(conversations(), st.data())
def test_what_is_left_is_whole(turns: list[Turn], data: st.DataObject):
    places = cuts(turns)
    cut = data.draw(st.sampled_from(places))
    kept = kept_from(turns, cut)

    assert places == sorted(set(places))
    assert kept_from(turns, 0) == tuple(turns)
    assert [turn for turn in kept if stays(turn)] == [turn for turn in turns if stays(turn)]
    assert kept[len(kept) - len(turns) + cut :] == tuple(turns[cut:])
    asked = [turn for turn in turns if turn.role == "user" and not turn.is_kept]
    assert not asked or asked[-1] in kept
    assert _pairs(kept) == _pairs(kept_from(turns, 0)) & _ids(kept)
    assert num_items(kept) <= num_items(turns)
    assert sum(sizes(kept)) <= sum(sizes(turns))


@given(conversations(), conversations())
def test_cuts_stay_when_a_conversation_grows(turns: list[Turn], more: list[Turn]):
    assert set(cuts(turns)) <= set(cuts([*turns, user("next"), *more]))


def _ids(turns: tuple[Turn, ...]) -> set[str]:
    made = {call.id for turn in turns for call in turn.calls}
    return made | {turn.call_id for turn in turns if turn.call_id is not None}


def _pairs(turns: tuple[Turn, ...]) -> set[str]:
    """The calls that have a result."""
    made = {call.id for turn in turns for call in turn.calls}
    return {turn.call_id for turn in turns if turn.call_id in made and turn.call_id is not None}
