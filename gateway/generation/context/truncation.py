"""Finds how much of the beginning of a conversation has to be dropped so that the rest fits.

What is dropped grows in steps, which are counted from the beginning of the conversation in bytes.
So a conversation that grows keeps its first kept turn, and the prompt its beginning, which the
prefix cache has, until a whole step more has to be dropped.
"""

from collections.abc import Awaitable, Callable, Sequence
from itertools import accumulate
from typing import Generic, TypeVar

from msgspec import Struct

from gateway.bounds.work_pool import Work, at_once
from gateway.chat.conversation import Turn
from gateway.chat.shortening import cuts, kept_from, num_items, sizes, stays

STEPS = 4
"""A step is this part of the context: a quarter."""

ANSWER_SHARE = 8
"""A prompt leaves this part of the context to an answer without a limit: an eighth."""

MOST_FOR_ANSWER = 2
"""And at most this part to one with a limit, however high that is: the half."""

T = TypeVar("T")


class Room(Struct, frozen=True, kw_only=True):
    """The room for a prompt: `num_tokens`. A step of what is dropped has `step_tokens`. A token has
    about `bytes_per_token`."""

    num_tokens: int
    step_tokens: int
    bytes_per_token: float


class Shortened(Struct, Generic[T], frozen=True):
    """What `fit` has found for a conversation without its first `num_dropped` items."""

    found: T
    num_dropped: int


def room_for_prompt(max_model_len: int, answer_limit: int | None, bytes_per_token: float) -> Room:
    """The room beside an answer of `answer_limit` tokens; None is an answer without a limit."""
    answer = max_model_len // ANSWER_SHARE
    if answer_limit is not None:
        answer = min(answer_limit, max_model_len // MOST_FOR_ANSWER)
    return Room(
        num_tokens=max_model_len - max(answer, 1),
        step_tokens=max(max_model_len // STEPS, 1),
        bytes_per_token=bytes_per_token,
    )


Fit = Callable[[Sequence[Turn]], Awaitable[T | None]]
"""What is made of turns that fit; None if they do not."""


async def shortened(
    turns: Sequence[Turn], room: Room, fit: Fit[T], work: Work = at_once
) -> Shortened[T] | None:
    """The conversation without as few steps as possible, or where no step will do, without as few
    turns. None if not even its last turns fit. `fit` is asked seldom: twice, if it finds what the
    bytes of the turns let expect."""
    places = await work(_places, turns, room)

    async def fit_from(place: _Place) -> Shortened[T] | None:
        kept = await work(kept_from, turns, place.cut)
        if (found := await fit(kept)) is None:
            return None
        return Shortened(found, num_items(turns) - num_items(kept))

    for some in (places.steps, places.between):
        guess = next((i for i, each in enumerate(some) if each.rest <= places.room), len(some) - 1)
        if (found := await _first(some, guess, fit_from)) is not None:
            return found
    return None


class _Place(Struct, frozen=True):
    """A cut, and the bytes of what is kept then."""

    cut: int
    rest: int


class _Places(Struct, frozen=True):
    """The cuts at steps, and those behind the last of them. `room` is in bytes."""

    steps: list[_Place]
    between: list[_Place]
    room: int


def _places(turns: Sequence[Turn], room: Room) -> _Places:
    weights = [*sizes(turns)]
    dropped = [0, *accumulate(0 if stays(t) else w for t, w in zip(turns, weights, strict=True))]
    total, found = sum(weights), cuts(turns)
    step = max(int(room.step_tokens * room.bytes_per_token), 1)
    at_steps, target = [0], step
    for cut in found[1:]:
        if dropped[cut] >= target:
            at_steps.append(cut)
            target = (dropped[cut] // step + 1) * step
    return _Places(
        [_Place(cut, total - dropped[cut]) for cut in at_steps],
        [_Place(cut, total - dropped[cut]) for cut in found if cut > at_steps[-1]],
        int(room.num_tokens * room.bytes_per_token),
    )


async def _first(
    places: Sequence[_Place], guess: int, fit: Callable[[_Place], Awaitable[Shortened[T] | None]]
) -> Shortened[T] | None:
    """What fits at the first of these places at which anything does; what fits at one fits at all
    that follow. The search goes from the guess in steps that double, and then by halves."""
    too_long, fits, best, stride, at = -1, len(places), None, 1, guess
    while too_long + 1 < fits:
        if (found := await fit(places[at])) is not None:
            fits, best = at, found
            at = at - stride
        else:
            too_long = at
            at = at + stride
        stride *= 2
        if not too_long < at < fits:
            at = (too_long + fits) // 2
    return best
