"""The embedded engine's scheduler and KV cache on random workloads, without a model."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.engines.llama_cpp.pace import (
    MIN_PROMPT_TOKENS,
    ROW_MULTIPLE,
    STRETCH,
    UNDISTURBED_STEPS,
)
from runtime.messages.request import Request
from tests.kit.cell_world import SLOWNESS, World, expected_answer
from tests.kit.cell_world import world_request as request

# Few different tokens, so that prompts often begin alike, and some that extend a conversation.
prompts = st.lists(st.integers(1, 2), min_size=1, max_size=30)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_everybody_gets_their_own_answer_whatever_is_shared(data: st.DataObject):
    num_cells = data.draw(st.integers(48, 128), label="cells")
    max_num_seqs = data.draw(st.integers(1, 6), label="seqs")
    world = World(
        num_cells=num_cells,
        max_num_seqs=max_num_seqs,
        budget=data.draw(st.integers(6, 32), label="budget"),
        max_num_bytes=data.draw(st.sampled_from([0, 60, 400, 10_000]), label="bytes"),
        block_tokens=data.draw(st.integers(1, 8), label="block"),
        sharing=data.draw(st.booleans(), label="sharing"),
    )
    wanted: dict[str, list[int]] = {}
    for number in range(data.draw(st.integers(1, 14), label="requests")):
        each = request(
            str(number),
            data.draw(prompts),
            max_tokens=data.draw(st.integers(1, num_cells // 3)),
            priority=data.draw(st.integers(0, 2)),
            cache_salt=data.draw(st.sampled_from(["", "", "other"])),
        )
        world.waiting.append(each)
        wanted[each.request_id] = expected_answer(each)
        for _ in range(data.draw(st.integers(0, 4), label="steps")):
            world.step()
        running = world.scheduler.sequences()
        action = data.draw(st.integers(0, 9), label="action") if running else 9
        victim = data.draw(st.sampled_from(running)).request_id if running else ""
        if action == 0:
            world.scheduler.remove(victim)
            del wanted[victim]
            world.check()
        elif action == 1:
            world.scheduler.preempt(victim)
            world.take_back()
            world.check()
    world.run()

    assert world.finished == wanted
    assert world.cache.usage == 0
    assert world.memory.num_used == 0
    assert world.cache.prefix_usage <= 1


class NaiveCache:
    """The reference: remembers everything, compares with everything."""

    def __init__(self) -> None:
        self._seen: list[tuple[str, list[int]]] = []

    def num_cached(self, each: Request) -> int:
        """Tokens of the longest common prefix; the last token of a prompt is always computed."""
        prompt = each.prompt_token_ids[:-1]
        lengths = [0]
        for salt, tokens in self._seen:
            if salt == each.cache_salt:
                pairs = enumerate(zip(prompt, tokens, strict=False))
                lengths.append(
                    next((i for i, (a, b) in pairs if a != b), min(len(prompt), len(tokens)))
                )
        return max(lengths)

    def add(self, each: Request, answer: list[int]) -> None:
        self._seen.append((each.cache_salt, (each.prompt_token_ids + answer)[:-1]))


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_with_room_for_all_the_tree_finds_what_comparing_with_everything_finds(
    data: st.DataObject,
):
    world = World(num_cells=4096, max_num_seqs=2, budget=16)
    naive = NaiveCache()
    histories: list[list[int]] = [[]]
    for number in range(data.draw(st.integers(1, 16), label="requests")):
        history = data.draw(st.sampled_from(histories))
        each = request(
            str(number),
            history + data.draw(prompts),
            max_tokens=data.draw(st.integers(1, 8)),
            cache_salt=data.draw(st.sampled_from(["", "", "other"])),
        )
        world.waiting.append(each)
        world.run()

        assert world.cached[each.request_id] == naive.num_cached(each)

        answer = world.finished[each.request_id]
        naive.add(each, answer)
        histories.append(each.prompt_token_ids + answer)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_small_memory_finds_at_most_what_a_large_one_finds(data: st.DataObject):
    world = World(num_cells=64, max_num_seqs=1, budget=16, max_num_bytes=200)
    naive = NaiveCache()
    for number in range(data.draw(st.integers(1, 16), label="requests")):
        each = request(str(number), data.draw(prompts), max_tokens=3)
        world.waiting.append(each)
        world.run()

        assert world.cached[each.request_id] <= naive.num_cached(each)
        naive.add(each, world.finished[each.request_id])


def test_a_conversation_computes_only_what_is_new():
    world = World(num_cells=512, max_num_seqs=1, budget=64)
    world.waiting.append(request("0", range(1, 101), max_tokens=10))
    world.run()
    history = [*range(1, 101), *world.finished["0"]]
    world.num_computed = 0

    world.waiting.append(request("1", [*history, 7, 8, 9], max_tokens=1))
    world.run()

    assert world.cached["1"] == 109  # all but the last token of the answer, which was never read
    assert world.num_computed == 4


def test_a_common_prefix_is_computed_once_for_requests_that_come_together():
    world = World(num_cells=1024, max_num_seqs=8, budget=512)
    system = list(range(1, 101))
    world.waiting = [request(str(n), [*system, 200 + n, 5], max_tokens=1) for n in range(8)]

    world.run()

    assert world.num_computed == 100 + 8 * 2


def test_choices_of_one_prompt_share_its_computation():
    world = World(num_cells=512, max_num_seqs=4, budget=512)
    world.waiting = [request(str(n), range(1, 101), max_tokens=3) for n in range(4)]

    world.step()

    assert world.num_computed == 99 + 4  # each needs the logits of the last token for itself


def test_when_the_one_that_computes_a_shared_prefix_leaves_another_goes_on():
    world = World(num_cells=512, max_num_seqs=4, budget=10)
    world.waiting = [request(str(n), [*range(1, 41), n], max_tokens=2) for n in range(3)]
    world.step()

    world.scheduler.remove("0")
    world.run()

    assert set(world.finished) == {"1", "2"}
    assert world.num_computed == 40 + 2 * 2


def test_prefixes_of_different_salts_are_not_shared():
    world = World(num_cells=512, max_num_seqs=1, budget=64)
    for number, salt in enumerate(["a", "b", "a"]):
        world.waiting.append(request(str(number), range(1, 51), cache_salt=salt))
        world.run()

    assert world.cached == {"0": 0, "1": 0, "2": 49}


def test_the_prefix_that_was_used_last_stays_longest():
    world = World(num_cells=100, max_num_seqs=1, budget=64, max_num_bytes=280)
    often, seldom = range(1, 31), range(101, 131)
    for number, prompt in enumerate([seldom, often, often, range(201, 246)]):
        world.waiting.append(request(str(number), prompt, max_tokens=1))
        world.run()

    world.waiting = [request("4", often, max_tokens=1), request("5", seldom, max_tokens=1)]
    world.run()

    assert world.cached["4"] == 29
    assert world.cached["5"] < 29


def test_a_long_prompt_does_not_stall_those_who_stream():
    world = World(num_cells=4096, max_num_seqs=4, budget=512)
    world.waiting.append(request("0", [1, 2, 3], max_tokens=500))
    for _ in range(4):
        world.step()
    world.waiting.append(request("1", range(1, 2001), max_tokens=5))

    for _ in range(20):
        batch = world.step()
        assert any(chunk.sequences[0].request_id == "0" for chunk in batch.chunks)
        assert batch.num_tokens <= rounded_up(max(1 + STRETCH, 1 + MIN_PROMPT_TOKENS))


def rounded_up(num_rows: float) -> int:
    return math.ceil(num_rows / ROW_MULTIPLE) * ROW_MULTIPLE


def test_where_many_wait_for_one_stream_it_makes_room_up_to_a_limit():
    world = World(num_cells=8192, max_num_seqs=8, budget=512)
    world.waiting.append(request("0", [1, 2, 3], max_tokens=500))
    for _ in range(4):
        world.step()
    world.waiting += [request(str(n), range(n, 900 + n), max_tokens=1) for n in range(1, 8)]
    world.step()

    sizes = [world.step().num_tokens for _ in range(5)]

    assert max(sizes) <= rounded_up(7 * 0.05 / SLOWNESS + 1)
    assert min(sizes) > 0.05 / SLOWNESS


def test_a_short_prompt_does_not_wait_for_a_long_one_to_end():
    world = World(num_cells=8192, max_num_seqs=4, budget=512)
    world.waiting.append(request("0", range(1, 4001), max_tokens=1))
    for _ in range(3):
        world.step()
    world.waiting.append(request("1", range(5001, 5041), max_tokens=1))

    world.step()

    assert set(world.finished) == {"1"}
    world.run()
    assert set(world.finished) == {"0", "1"}


def test_a_burst_is_read_in_large_chunks_that_still_end():
    """Nobody streams: chunks may be large, but steps stay short enough to hear who leaves."""
    world = World(num_cells=8192, max_num_seqs=4, budget=512)
    world.waiting.append(request("0", range(1, 4001), max_tokens=1))
    world.step()

    sizes = [world.step().num_tokens for _ in range(5)]

    assert max(sizes) <= 0.05 / SLOWNESS * UNDISTURBED_STEPS
    assert min(sizes) >= 0.05 / SLOWNESS


def test_the_lowest_priority_gives_way_when_cells_run_out():
    world = World(num_cells=32, max_num_seqs=2, budget=32)
    world.waiting = [
        request("0", range(1, 11), max_tokens=20),
        request("1", range(11, 21), max_tokens=20, priority=-1),
    ]
    while not world.num_preempted:
        world.step()

    assert [each.request_id for each in world.waiting] == ["0"]
    world.run()
    assert {key: len(answer) for key, answer in world.finished.items()} == {"0": 20, "1": 20}


def test_nothing_to_do_is_an_empty_batch():
    world = World(num_cells=32, max_num_seqs=2, budget=8)

    assert world.scheduler.schedule().chunks == []


def test_without_sharing_nothing_stays():
    world = World(num_cells=256, max_num_seqs=2, budget=64, sharing=False)
    for number in range(2):
        world.waiting.append(request(str(number), range(1, 51)))
        world.run()

    assert world.cached == {"0": 0, "1": 0}
    assert world.memory.num_used == 0


def test_salts_and_requests_without_end_leave_nothing_behind():
    world = World(num_cells=64, max_num_seqs=2, budget=16, max_num_bytes=12)
    for number in range(200):
        world.waiting.append(request(str(number), [number], cache_salt=f"salt {number}"))
        world.run()

    assert len(world.cache._tree._roots) <= 2
