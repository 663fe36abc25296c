"""Which tokens the next step computes.

There is no prefill phase and no decode phase: each sequence has tokens that are not computed yet,
and a step hands out one token budget. Sequences with a single token left come first, so nobody's
stream stalls; prompts share what remains, in chunks.
"""

from msgspec import Struct

from runtime.engines.llama_cpp.kv_cache import KVCache
from runtime.engines.llama_cpp.pace import Pace
from runtime.engines.llama_cpp.sequence import Sequence


class Chunk(Struct, frozen=True, gc=False):
    """`num_tokens` tokens of a sequence, from its first uncomputed one on."""

    sequence: Sequence
    num_tokens: int

    @property
    def samples(self) -> bool:
        """Whether the chunk reaches the sequence's end, so that a token is sampled after it."""
        return self.num_tokens == self.sequence.num_remaining_tokens


class Batch(Struct, frozen=True, gc=False):
    """The work of one step."""

    chunks: list[Chunk]

    @property
    def num_tokens(self) -> int:
        return sum(chunk.num_tokens for chunk in self.chunks)


class Scheduler:
    """Owns every sequence of the engine: `_running` ones hold cells, `_preempted` ones hold none
    and wait to be computed again."""

    def __init__(
        self, kv_cache: KVCache, pace: Pace, *, max_num_seqs: int, max_num_batched_tokens: int
    ) -> None:
        self._kv_cache = kv_cache
        self._pace = pace
        self._max_num_seqs = max_num_seqs
        self._max_num_batched_tokens = max_num_batched_tokens
        self._running: list[Sequence] = []
        self._preempted: list[Sequence] = []
        self._num_preempted = 0

    @property
    def num_sequences(self) -> int:
        return len(self._running) + len(self._preempted)

    def sequences(self) -> list[Sequence]:
        """All sequences, running ones first."""
        return self._running + self._preempted

    def take_num_preempted(self) -> int:
        """Preemptions since the last call."""
        count, self._num_preempted = self._num_preempted, 0
        return count

    def can_add(self, num_tokens: int) -> bool:
        """Whether a sequence of so many tokens can start now. Preempted ones go first."""
        return (
            not self._preempted
            and len(self._running) < self._max_num_seqs
            and self._kv_cache.can_allocate(num_tokens)
        )

    def add(self, sequence: Sequence) -> None:
        """Let a sequence in; `can_add` has said that it fits."""
        self._kv_cache.allocate(sequence)
        self._running.append(sequence)

    def remove(self, request_id: str) -> Sequence | None:
        """Take a sequence out and free its cells. None when it is not here."""
        for queue in (self._running, self._preempted):
            for sequence in queue:
                if sequence.request_id == request_id:
                    queue.remove(sequence)
                    if queue is self._running:
                        self._kv_cache.free(sequence)
                    return sequence
        return None

    def schedule(self) -> Batch:
        """Hand out the step's token budget. An empty batch means that there is nothing to do."""
        self._resume_preempted()
        self._make_room()
        decoding = [seq for seq in self._running if seq.num_remaining_tokens == 1]
        chunks = [Chunk(seq, 1) for seq in decoding[: self._max_num_batched_tokens]]
        budget = self._max_num_batched_tokens - len(chunks)
        budget = min(budget, self._pace.num_prompt_tokens(len(chunks)))
        for seq in self._running:
            if seq.num_remaining_tokens > 1 and budget > 0:
                num_tokens = min(seq.num_remaining_tokens, budget)
                chunks.append(Chunk(seq, num_tokens))
                budget -= num_tokens
        return Batch(chunks)

    def _make_room(self) -> None:
        """A cell for every running sequence's newest token, by preemption if there is none."""
        for seq in sorted(self._running, key=_rank):
            while seq in self._running and not self._kv_cache.has_cells_for(seq):
                if self._kv_cache.num_free:
                    self._kv_cache.grow(seq)
                else:
                    self._preempt(max(self._running, key=_rank))

    def _preempt(self, sequence: Sequence) -> None:
        assert len(self._running) > 1, "one sequence outgrew the whole cache: this is a bug"
        self._running.remove(sequence)
        self._kv_cache.free(sequence)
        self._preempted.append(sequence)
        self._preempted.sort(key=_rank)
        self._num_preempted += 1

    def _resume_preempted(self) -> None:
        # A margin of one cell for each running sequence keeps the next step from preempting again.
        while self._preempted and self._kv_cache.can_allocate(
            self._preempted[0].num_tokens + len(self._running)
        ):
            self.add(self._preempted.pop(0))


def _rank(sequence: Sequence) -> tuple[int, float]:
    return sequence.rank
