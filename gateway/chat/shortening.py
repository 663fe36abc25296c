"""Which of the oldest turns a conversation can do without. Pure.

A conversation is dropped from its beginning, up to a cut. Turns of the system stay, and so does a
call with its results. Where cuts are depends on what is before them alone, so that a conversation
that has grown can be cut where it was cut before.
"""

from collections.abc import Iterator, Sequence

import msgspec

from gateway.chat.conversation import Turn

TURN_BYTES = 16
"""What a turn weighs besides its text: the marks of a chat template around it."""


def cuts(turns: Sequence[Turn]) -> list[int]:
    """The places at which a conversation may be cut, in ascending order; the first is 0, which
    drops nothing. What follows the last one is always kept.

    A cut is in front of a user's message, or of an answer to results of tools. None is between a
    call and its result.
    """
    found, before = [0], ""
    for index, (turn, last_result) in enumerate(zip(turns, _last_results(turns), strict=True)):
        if stays(turn):
            continue
        begins = turn.role == "user" or (turn.role == "assistant" and before == "tool")
        if begins and before and index > last_result:
            found.append(index)
        before = turn.role
    return found


def kept_from(turns: Sequence[Turn], cut: int) -> tuple[Turn, ...]:
    """The turns that are left of a conversation: those from the cut on, those that always stay, and
    the user's message that the first answer behind the cut belongs to."""
    first = next((turn for turn in turns[cut:] if not stays(turn)), None)
    is_answer = first is not None and first.role == "assistant"
    asked = _question(turns, cut) if is_answer else None
    before = [turn for index, turn in enumerate(turns[:cut]) if index == asked or stays(turn)]
    return (*before, *turns[cut:])


def last_turns(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The fewest turns that can be left."""
    return kept_from(turns, cuts(turns)[-1])


def stays(turn: Turn) -> bool:
    """Whether the turn is never dropped, wherever it is."""
    return turn.role == "system" or turn.is_kept


def num_items(turns: Sequence[Turn]) -> int:
    """The items of the request that these turns were made of."""
    return sum(turn.num_items for turn in turns)


def sizes(turns: Sequence[Turn]) -> Iterator[int]:
    """What each turn weighs: about the bytes of its part of a prompt."""
    for turn in turns:
        called = [(call.name, call.arguments) for call in turn.calls]
        written = f"{turn.text}{turn.reasoning}".encode("utf-8", "replace")
        yield TURN_BYTES + len(written) + (len(msgspec.json.encode(called)) if called else 0)


def _question(turns: Sequence[Turn], cut: int) -> int | None:
    """The place of the last message of the user before the cut."""
    asked = (i for i in range(cut - 1, -1, -1) if turns[i].role == "user" and not stays(turns[i]))
    return next(asked, None)


def _last_results(turns: Sequence[Turn]) -> Iterator[int]:
    """For each turn, the place of the last result of all calls before it; -1 if there is none."""
    results, made = dict[int, int](), dict[str, int]()
    for index, turn in enumerate(turns):
        made |= dict.fromkeys([call.id for call in turn.calls], index)
        if turn.role == "tool" and turn.call_id in made:
            results[made[turn.call_id]] = index
    last = -1
    for index in range(len(turns)):
        yield last
        last = max(last, results.get(index, -1))
