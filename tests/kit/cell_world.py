"""Scheduler and cache of the embedded engine on a memory that knows every cell: no model."""

from collections.abc import Sequence as SequenceOf

from runtime.engines.llama_cpp.kv.disk.tier import DiskTier
from runtime.engines.llama_cpp.kv.kv_cache import KVCache
from runtime.engines.llama_cpp.pace import Pace
from runtime.engines.llama_cpp.sampling.sampler import Sampler
from runtime.engines.llama_cpp.scheduler import Batch, Scheduler
from runtime.engines.llama_cpp.sequence import Sequence
from runtime.messages.request import Request
from tests.kit.engines import a_request
from tests.kit.fake_memory import FakeMemory

EOS = frozenset({0})
SLOWNESS = 0.001
"""Seconds that a token takes in these worlds."""


def world_request(request_id: str, prompt: SequenceOf[int], **more: object) -> Request:
    arrival_time = float(request_id)
    fields = {"max_tokens": 4, "arrival_time": arrival_time, "prompt_token_ids": list(prompt)}
    return a_request(request_id, **fields | more)


def answer_token(tokens: SequenceOf[int]) -> int:
    """What the model of these worlds says next: it depends on all that came before."""
    return 1 + (sum(tokens) * 31 + len(tokens)) % 5


class World:
    """Scheduler and cache, driven the way the engine and its core drive them."""

    def __init__(
        self,
        *,
        num_cells: int,
        max_num_seqs: int,
        budget: int,
        max_num_bytes: int = 1_000_000,
        block_tokens: int = 4,
        sharing: bool = True,
        disk: DiskTier | None = None,
    ) -> None:
        self.memory = FakeMemory(num_cells + block_tokens)
        self.cache = KVCache(
            self.memory,
            num_cells=num_cells,
            num_slots=max_num_seqs,
            max_num_bytes=max_num_bytes,
            block_tokens=block_tokens,
            sharing=sharing,
            disk=disk,
        )
        self.disk = disk
        self.pace = Pace(max_step_seconds=0.05)
        self.budget = budget
        self.max_num_seqs = max_num_seqs
        self.scheduler = Scheduler(
            self.cache, self.pace, max_num_seqs=max_num_seqs, max_num_batched_tokens=budget
        )
        self.waiting: list[Request] = []
        self.finished: dict[str, list[int]] = {}
        self.cached: dict[str, int] = {}
        self.cached_at_end: dict[str, int] = {}
        self.num_preempted = 0
        self.num_computed = 0

    @property
    def is_idle(self) -> bool:
        return not self.waiting and not self.scheduler.num_running

    def admit(self) -> None:
        """First come, first served; who was preempted stands first."""
        while self.waiting:
            each = self.waiting[0]
            tokens = each.prompt_token_ids + each.output_token_ids
            if not self.scheduler.can_add(tokens, each.cache_salt):
                return
            self.waiting.pop(0)
            sequence = Sequence(each, Sampler(each.sampling), 10_000, EOS)
            self.scheduler.add(sequence)
            self.cached.setdefault(each.request_id, sequence.num_cached_tokens)
            self.check()

    def step(self) -> Batch:
        self.admit()
        batch = self.scheduler.schedule()
        self.take_back()
        self.check_batch(batch)
        for chunk in batch.chunks:
            tokens = chunk.sequences[0].token_ids[chunk.start : chunk.end]
            slots = [sequence.slot for sequence in chunk.sequences]
            self.memory.write(slots, chunk.start, tokens)
        self.num_computed += batch.num_tokens
        self.scheduler.commit(batch)
        for chunk in batch.chunks:
            if chunk.samples:
                self.sample(chunk.sequences[0])
        num_prompt = batch.num_tokens - batch.num_decoding
        self.pace.observe(batch.num_decoding, num_prompt, SLOWNESS * batch.num_tokens)
        self.check()
        return batch

    def take_back(self) -> None:
        for sequence in self.scheduler.take_preempted():
            self.waiting.insert(0, sequence.to_request())
            self.num_preempted += 1

    def sample(self, sequence: Sequence) -> None:
        if sequence.append(answer_token(sequence.token_ids)) is not None:
            tokens = sequence.token_ids[sequence.num_prompt_tokens :]
            self.finished[sequence.request_id] = tokens
            self.cached_at_end[sequence.request_id] = sequence.num_cached_tokens
            self.scheduler.remove(sequence.request_id)

    def run(self) -> None:
        for _ in range(20_000):
            if self.is_idle:
                return
            if not self.step().chunks:
                assert self.disk is not None, "a step with sequences must make progress"
                self.disk.wait()
        raise AssertionError("it never ends")

    def check(self) -> None:
        """Books, structure, and that every slot has exactly the tokens that it should have."""
        self.cache.check_integrity()
        assert self.memory.num_used <= self.cache.num_cells - self.cache.num_free
        for sequence in self.scheduler.sequences():
            computed = sequence.token_ids[: sequence.num_computed_tokens]
            assert self.memory.tokens(sequence.slot) == computed

    def check_batch(self, batch: Batch) -> None:
        assert batch.num_tokens <= self.budget
        turn = [s for s in self.scheduler.sequences() if s.request.lora == batch.adapter]
        decoding = [seq for seq in turn if seq.num_remaining_tokens == 1]
        assert batch.num_decoding == len(decoding), "nobody's stream stalls in its turn"
        ends: dict[Sequence, int] = {}
        for chunk in batch.chunks:
            assert chunk.num_tokens > 0
            for sequence in chunk.sequences:
                position = ends.get(sequence, sequence.num_computed_tokens)
                assert chunk.start == position, "chunks of a sequence follow each other"
                assert chunk.end <= sequence.num_tokens
                ends[sequence] = chunk.end
                assert self.cache.has_cells_for(sequence)
                tokens = chunk.sequences[0].token_ids
                assert sequence.token_ids[: chunk.end] == tokens[: chunk.end]
            assert not chunk.samples or len(chunk.sequences) == 1


def expected_answer(each: Request) -> list[int]:
    tokens = list(each.prompt_token_ids)
    for _ in range(each.sampling.max_tokens):
        tokens.append(answer_token(tokens))
    return tokens[len(each.prompt_token_ids) :]
