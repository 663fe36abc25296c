"""How much of a conversation is dropped."""

import asyncio
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from gateway.chat.conversation import Turn
from gateway.chat.shortening import kept_from, last_turns, num_items
from gateway.generation.context.truncation import (
    Room,
    Shortened,
    room_for_prompt,
    shortened,
)
from tests.kit.chat.conversations import conversations

Kept = tuple[Turn, ...]


class Model:
    """Counts the bytes of a conversation, and how often it was asked to."""

    def __init__(self, max_tokens: int, bytes_per_token: float = 1.0) -> None:
        self.room = Room(
            num_tokens=max_tokens,
            step_tokens=max(max_tokens // 4, 1),
            bytes_per_token=bytes_per_token,
        )
        self.num_asked = 0

    def length(self, turns: Sequence[Turn]) -> int:
        return sum(20 + len(turn.text) + len(turn.reasoning) for turn in turns)

    def shortened(self, turns: Sequence[Turn]) -> Shortened[Kept] | None:
        async def fit(kept: Sequence[Turn]) -> Kept | None:
            self.num_asked += 1
            return tuple(kept) if self.length(kept) <= self.room.num_tokens else None

        return asyncio.run(shortened(turns, self.room, fit))


def exchange(number: int) -> list[Turn]:
    question = Turn("user", f"question {number} " * 5)
    return [question, Turn("assistant", f"answer {number} " * 10)]


def test_what_fits_is_rendered_once_and_stays_whole():
    model, turns = Model(10_000), exchange(0)
    found = model.shortened(turns)

    assert found is not None
    assert (found.found, found.num_dropped, model.num_asked) == (tuple(turns), 0, 1)


@given(conversations(), st.integers(20, 3000), st.sampled_from([0.2, 1.0, 5.0]))
def test_the_prompt_fits_and_is_a_whole_end(
    turns: list[Turn], max_tokens: int, bytes_per_token: float
):
    model = Model(max_tokens, bytes_per_token)
    found = model.shortened(turns)

    if found is None:
        assert model.length(last_turns(turns)) > max_tokens
        return
    assert model.length(found.found) <= max_tokens
    assert found.num_dropped == num_items(turns) - num_items(found.found)
    assert found.found in [kept_from(turns, cut) for cut in range(len(turns) + 1)]
    if model.length(turns) <= max_tokens:
        assert found.num_dropped == 0


@given(
    st.lists(st.integers(1, 400), min_size=2, max_size=60),
    st.integers(1500, 4000),
    st.sampled_from([0.3, 1.0, 3.0]),
)
def test_the_next_prompt_begins_with_the_last_one(
    lengths: list[int], max_tokens: int, bytes_per_token: float
):
    """Until the kept turns and the next ones do not fit together."""
    model = Model(max_tokens, bytes_per_token)
    turns, before = [Turn("system", "s")], ()
    for length in lengths:
        turns += [Turn("user", f"{len(turns)}"), Turn("assistant", "x" * length)]
        found = model.shortened(turns)
        assert found is not None
        continued = (*before, *turns[-2:]) if before else ()
        if continued and model.length(continued) <= max_tokens:
            assert found.found == continued
        before = found.found


def test_a_quarter_is_freed_at_once():
    model, turns, num_drops, last = Model(4000), [], 0, 0
    for number in range(300):
        turns += exchange(number)
        found = model.shortened(turns)
        assert found is not None
        if found.num_dropped > last:
            num_drops += 1
            assert model.length(found.found) <= 0.85 * 4000
        last = found.num_dropped
    assert num_drops > 10


def test_long_histories_are_rendered_seldom():
    turns = [turn for number in range(50_000) for turn in exchange(number)]
    for bytes_per_token in (0.8, 1.0, 1.3):
        model = Model(32_000, bytes_per_token)
        found = model.shortened(turns)
        assert found is not None
        assert found.num_dropped > 99_000
        assert model.num_asked <= 7


def test_large_turns_are_dropped_one_by_one():
    """A step of a quarter would drop more than must be."""
    turns = [Turn("user", "x" * 900), Turn("assistant", "y" * 900), Turn("user", "z" * 90)]
    found = Model(500).shortened(turns)

    assert found is not None
    assert found.found == (turns[2],)
    assert Model(50).shortened(turns) is None


def test_an_answer_gets_the_room_it_asks_for_up_to_the_half():
    assert room_for_prompt(1000, 100, 4.0).num_tokens == 900
    assert room_for_prompt(1000, 10_000, 4.0).num_tokens == 500
    assert room_for_prompt(1000, None, 4.0).num_tokens == 875
    assert room_for_prompt(1000, 1, 4.0).step_tokens == 250
