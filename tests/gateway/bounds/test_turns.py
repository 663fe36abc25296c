"""Small bodies that are complete at the same time."""

import asyncio
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.bounds.turns import BYTES_A_TURN, LEAST_BYTES, Turns

pytestmark = pytest.mark.anyio

SIZES = st.lists(st.integers(0, 2 * BYTES_A_TURN), max_size=60)


async def begun(sizes: list[int], gone: frozenset[int] = frozenset()) -> list[tuple[int, int]]:
    """The turn of the loop in which each body's work began, and the body, in that order. Clients in
    `gone` leave before their turn has come."""
    turns, order, turn = Turns(), list[tuple[int, int]](), 0

    async def work(number: int) -> None:
        await turns.wait(sizes[number])
        order.append((turn, number))

    tasks = [asyncio.create_task(work(number)) for number in range(len(sizes))]
    while not all(task.done() for task in tasks):
        turn += 1
        await asyncio.sleep(0)
        for number in gone:
            tasks[number].cancel()
    assert turns.num_waiting == 0
    return order


@given(sizes=SIZES)
def test_all_come_in_their_order(sizes: list[int]) -> None:
    assert [number for _, number in asyncio.run(begun(sizes))] == list(range(len(sizes)))


@given(sizes=SIZES)
def test_no_turn_has_too_much(sizes: list[int]) -> None:
    """A body that is larger than a turn has one to itself."""
    for _, group in groupby(asyncio.run(begun(sizes)), key=lambda pair: pair[0]):
        weights = [max(sizes[number], LEAST_BYTES) for _, number in group]
        assert len(weights) == 1 or sum(weights) <= BYTES_A_TURN


@given(sizes=SIZES, gone=st.frozensets(st.integers(0, 59)))
def test_who_leaves_holds_nobody_up(sizes: list[int], gone: frozenset[int]) -> None:
    left = frozenset(number for number in gone if number < len(sizes))
    order = [number for _, number in asyncio.run(begun(sizes, left))]
    assert order == sorted(order)
    assert set(order) | left == set(range(len(sizes)))


async def test_what_fits_does_not_wait() -> None:
    """A short request alone is worked on at once: no other task runs in between."""
    turns, others = Turns(), []
    asyncio.get_running_loop().call_soon(others.append, "ran")
    for _ in range(BYTES_A_TURN // LEAST_BYTES):
        await turns.wait(100)
    assert not others
    await turns.wait(100)
    assert others
