"""The queue is bounded, ordered, and forgets what is removed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import EngineOverloaded, Request, SamplingParams
from runtime.waiting_queue import WaitingQueue


def request(request_id: str, priority: int = 0) -> Request:
    return Request(
        request_id=request_id,
        prompt_token_ids=[1],
        sampling=SamplingParams(max_tokens=1),
        priority=priority,
    )


def test_a_full_queue_refuses_and_keeps_what_it_has():
    queue = WaitingQueue(1)
    queue.push(request("first"))

    with pytest.raises(EngineOverloaded):
        queue.push(request("second"))

    assert queue.pop().request_id == "first"
    assert len(queue) == 0


def test_free_places_in_the_engine_count_as_room():
    queue = WaitingQueue(0)

    queue.push(request("runs at once"), num_free=1)

    assert len(queue) == 1


def test_a_removed_request_never_comes_out():
    queue = WaitingQueue(4)
    for request_id in ("a", "b", "c"):
        queue.push(request(request_id))

    assert queue.remove("a")
    assert not queue.remove("a")

    assert [queue.pop().request_id, queue.pop().request_id] == ["b", "c"]
    assert queue.peek() is None


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), max_size=40))
def test_lower_priority_first_then_arrival(entries: list[tuple[int, bool]]):
    queue = WaitingQueue(len(entries))
    kept = []
    for number, (priority, removed) in enumerate(entries):
        queue.push(request(str(number), priority))
        if removed:
            queue.remove(str(number))
        else:
            kept.append((priority, number))

    assert [int(queue.pop().request_id) for _ in range(len(queue))] == [n for _, n in sorted(kept)]
