"""The embedded engine's scheduler on random workloads, without a model."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("llama_cpp")

from runtime import Request, SamplingParams
from runtime.engines.llama_cpp.kv_cache import KVCache
from runtime.engines.llama_cpp.pace import MIN_PROMPT_TOKENS, Pace
from runtime.engines.llama_cpp.scheduler import Batch, Scheduler
from runtime.engines.llama_cpp.sequence import Sequence

EOS = frozenset({0})


class Silent:
    """A sampler that is never asked."""

    def sample(self, row: int) -> int:
        raise AssertionError(row)

    def accept(self, token_ids: list[int]) -> None:
        pass

    def close(self) -> None:
        pass


class Memory:
    """Counts what llama.cpp would be told."""

    def __init__(self) -> None:
        self.removed: list[int] = []

    def remove(self, slot: int) -> None:
        self.removed.append(slot)


def sequence(request_id: str, num_prompt: int, max_tokens: int, priority: int = 0) -> Sequence:
    request = Request(
        request_id=request_id,
        prompt_token_ids=[1] * num_prompt,
        sampling=SamplingParams(max_tokens=max_tokens),
        priority=priority,
        arrival_time=float(request_id),
    )
    return Sequence(request, Silent(), max_model_len=10_000)


class World:
    """Scheduler and cache, driven the way the engine drives them."""

    def __init__(self, *, num_cells: int, max_num_seqs: int, budget: int) -> None:
        self.cache = KVCache(Memory(), num_cells=num_cells, num_slots=max_num_seqs)
        self.pace = Pace(max_step_seconds=0.05)
        self.budget = budget
        self.max_num_seqs = max_num_seqs
        self.scheduler = Scheduler(
            self.cache, self.pace, max_num_seqs=max_num_seqs, max_num_batched_tokens=budget
        )
        self.finished: dict[str, int] = {}

    def step(self) -> Batch:
        batch = self.scheduler.schedule()
        self.check(batch)
        sampling = [chunk.sequence for chunk in batch.chunks if chunk.samples]
        for chunk in batch.chunks:
            chunk.sequence.num_computed_tokens += chunk.num_tokens
        for seq in sampling:
            if seq.append(7, EOS) is not None:
                self.finished[seq.request_id] = seq.num_tokens - seq.num_prompt_tokens
                self.scheduler.remove(seq.request_id)
        decoding = sum(chunk.num_tokens == 1 for chunk in batch.chunks)
        self.pace.observe(decoding, batch.num_tokens - decoding, 0.001 * batch.num_tokens)
        self.cache.check_integrity()
        return batch

    def check(self, batch: Batch) -> None:
        assert batch.num_tokens <= self.budget
        assert len(batch.chunks) <= self.max_num_seqs
        slots = [chunk.sequence.slot for chunk in batch.chunks]
        assert len(set(slots)) == len(slots)
        assert all(chunk.num_tokens > 0 for chunk in batch.chunks)
        for chunk in batch.chunks:
            assert self.cache.has_cells_for(chunk.sequence)
            assert chunk.num_tokens <= chunk.sequence.num_remaining_tokens


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_everybody_is_answered_and_the_books_add_up(data: st.DataObject):
    num_cells = data.draw(st.integers(24, 96), label="cells")
    world = World(
        num_cells=num_cells,
        max_num_seqs=data.draw(st.integers(1, 6), label="seqs"),
        budget=data.draw(st.integers(6, 32), label="budget"),
    )
    count = data.draw(st.integers(1, 12), label="requests")
    waiting = []
    for number in range(count):
        num_prompt = data.draw(st.integers(1, num_cells // 2))
        max_tokens = data.draw(st.integers(1, num_cells // 2 - 1))
        waiting.append(sequence(str(number), num_prompt, max_tokens, data.draw(st.integers(0, 2))))
    wanted = {seq.request_id: seq.request.sampling.max_tokens for seq in waiting}
    for _ in range(20_000):
        if not waiting and not world.scheduler.num_sequences:
            break
        while waiting and world.scheduler.can_add(waiting[0].num_tokens):
            world.scheduler.add(waiting.pop(0))
        batch = world.step()
        assert batch.chunks, "a step with sequences must make progress"
        if world.scheduler.num_sequences and data.draw(st.integers(0, 19), label="abort") == 0:
            victim = world.scheduler.sequences()[-1].request_id
            world.scheduler.remove(victim)
            del wanted[victim]
            world.cache.check_integrity()

    assert world.finished == wanted
    assert world.cache.num_free == num_cells


def test_a_long_prompt_does_not_stall_those_who_stream():
    world = World(num_cells=4096, max_num_seqs=4, budget=512)
    world.scheduler.add(sequence("0", 4, 500))
    for _ in range(3):
        world.step()
    world.scheduler.add(sequence("1", 2000, 5))

    for _ in range(20):
        batch = world.step()
        assert any(chunk.sequence.request_id == "0" for chunk in batch.chunks)
        assert batch.num_tokens <= 50 + MIN_PROMPT_TOKENS


def test_the_lowest_priority_gives_way_when_cells_run_out():
    world = World(num_cells=32, max_num_seqs=2, budget=32)
    world.scheduler.add(sequence("0", 10, 20, priority=0))
    world.scheduler.add(sequence("1", 10, 20, priority=-1))

    while world.scheduler.take_num_preempted() == 0:
        world.step()
    [preempted] = [seq for seq in world.scheduler.sequences() if seq.num_computed_tokens == 0]
    while world.scheduler.num_sequences:
        world.step()

    assert preempted.request_id == "0"
    assert world.finished == {"0": 20, "1": 20}


def test_nothing_to_do_is_an_empty_batch():
    world = World(num_cells=32, max_num_seqs=2, budget=8)

    assert world.scheduler.schedule().chunks == []
