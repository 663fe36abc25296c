"""Prompts that are scored take far longer a token; steps stay as short as with other prompts."""

import pytest

from runtime.engines.llama_cpp.kv.kv_cache import KVCache
from runtime.engines.llama_cpp.pace import Pace
from runtime.engines.llama_cpp.sampling.sampler import Sampler
from runtime.engines.llama_cpp.scheduler import MAX_SCORED_TOKENS, Batch, Scheduler
from runtime.engines.llama_cpp.sequence import Sequence
from tests.kit.engines import a_request
from tests.kit.fake_memory import FakeMemory

TOKEN_SECONDS = 0.001
MAX_STEP_SECONDS = 0.05


class World:
    """A scored token takes `factor` times as long as another one."""

    def __init__(self, factor: float) -> None:
        self.factor = factor
        memory = FakeMemory(40004)
        cache = KVCache(
            memory, num_cells=40000, num_slots=8, max_num_bytes=0, block_tokens=4, sharing=False
        )
        self.pace = Pace(MAX_STEP_SECONDS)
        self.scheduler = Scheduler(cache, self.pace, max_num_seqs=8, max_num_batched_tokens=512)

    def add(self, request_id: str, num_tokens: int, **sampling: int) -> Sequence:
        prompt = list(range(1, num_tokens + 1))
        request = a_request(request_id, prompt_token_ids=prompt, **{"max_tokens": 3000, **sampling})
        sequence = Sequence(request, Sampler(request.sampling), 10_000)
        self.scheduler.add(sequence)
        return sequence

    def step(self) -> tuple[Batch, int, float]:
        """The batch, how many of its tokens were scored, and the seconds that it took."""
        batch = self.scheduler.schedule()
        num_scored = sum(chunk.num_tokens for chunk in batch.chunks if chunk.scores)
        seconds = TOKEN_SECONDS * (batch.num_tokens + num_scored * (self.factor - 1))
        self.scheduler.commit(batch)
        for chunk in batch.chunks:
            if chunk.samples:
                chunk.sequences[0].append(1)
                chunk.sequences[0].take_prompt_logprobs()
        num_prompt = batch.num_tokens - batch.num_decoding
        self.pace.observe(batch.num_decoding, num_prompt, seconds, num_scored=num_scored)
        return batch, num_scored, seconds


@pytest.mark.parametrize("factor", [1.5, 8.0, 40.0])
def test_scored_prompts_do_not_stall_those_who_stream(factor: float) -> None:
    world = World(factor)
    world.add("0", 3)
    for _ in range(4):
        world.step()
    scored = [world.add(f"{n}", int(3000 / factor), prompt_logprobs=0) for n in range(1, 5)]
    for _ in range(8):  # it learns how long they take
        world.step()

    for _ in range(10):
        batch, num_scored, seconds = world.step()
        assert batch.num_decoding == 1
        assert num_scored
        # Four prompts wait for one stream, so a step may take four times as long.
        assert seconds <= 1.3 * len(scored) * MAX_STEP_SECONDS
    for _ in range(2000):
        world.step()
    assert not any(sequence.scores_prompt for sequence in scored), "each comes to its end"


def test_one_step_scores_a_bounded_number_of_tokens() -> None:
    world = World(2.0)
    for n in range(8):
        world.add(f"{n}", 300, prompt_logprobs=0)
    numbers = [world.step()[1] for _ in range(20)]
    assert MAX_SCORED_TOKENS / 2 < max(numbers) <= MAX_SCORED_TOKENS


def test_other_prompts_are_read_as_fast_as_before() -> None:
    """What was learned of scored tokens says nothing about the others."""
    alone, after = World(40.0), World(40.0)
    sizes = []
    for world in (alone, after):
        world.add("plain", 2000)
        for _ in range(30):
            world.step()
        if world is after:
            world.add("scored", 300, prompt_logprobs=0)
        for _ in range(300):
            world.step()
        world.scheduler.remove("scored")
        world.add("next", 2000)
        world.step()
        sizes.append(world.step()[0].num_tokens)
    assert sizes[0] == sizes[1]
