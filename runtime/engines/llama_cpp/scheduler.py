"""Which tokens the next step computes.

There is no prefill phase and no decode phase: each sequence has tokens that are not computed yet,
and a step hands out one token budget. Sequences with a single token left come first, so no
stream stalls; prompts share the rest of the budget, in chunks. A run of tokens that several
sequences need is computed once, for all of them.

Adapters are added to the weights for a whole step. Where sequences with different adapters run,
steps belong to each adapter in turn.
"""

from collections.abc import Collection

from msgspec import Struct

from runtime.engines.llama_cpp.kv.kv_cache import KVCache
from runtime.engines.llama_cpp.pace import Pace, Turn
from runtime.engines.llama_cpp.sequence import Sequence

MAX_SCORED_TOKENS = 64
"""Most tokens that one step scores. A row of logits is as long as the vocabulary, and llama.cpp
keeps all rows of a step."""


class Chunk(Struct, frozen=True, gc=False):
    """`num_tokens` tokens from position `start` on, which all of `sequences` have in common."""

    sequences: tuple[Sequence, ...]
    start: int
    num_tokens: int

    @property
    def end(self) -> int:
        return self.start + self.num_tokens

    @property
    def samples(self) -> bool:
        """Whether the chunk reaches the sequence's end, so that a token is sampled after it. The
        last token of a sequence is never shared."""
        return self.end == self.sequences[0].num_tokens

    @property
    def scores(self) -> bool:
        """Whether the prompt's tokens are scored. A sequence that scores its prompt shares none."""
        sequence = self.sequences[0]
        return sequence.scores_prompt and self.start < sequence.num_prompt_tokens - 1


class Batch(Struct, frozen=True, gc=False):
    """The work of one step: `num_decoding` chunks of one token that go on with an answer, then
    chunks of prompts. All are computed with one adapter; "" is none. `is_turn` says that sequences
    with another one wait for the next step."""

    chunks: list[Chunk]
    num_decoding: int
    adapter: str = ""
    is_turn: bool = False

    @property
    def num_tokens(self) -> int:
        return sum(chunk.num_tokens for chunk in self.chunks)


class Scheduler:
    """Owns every running sequence. `take_preempted` hands back preempted sequences."""

    def __init__(
        self, kv_cache: KVCache, pace: Pace, *, max_num_seqs: int, max_num_batched_tokens: int
    ) -> None:
        assert max_num_batched_tokens >= max_num_seqs, "every sequence gets a token in every step"
        self._kv_cache = kv_cache
        self._pace = pace
        self._max_num_seqs = max_num_seqs
        self._max_num_batched_tokens = max_num_batched_tokens
        self._running: dict[str, Sequence] = {}
        self._turns: dict[str, None] = {}  # adapters, the one whose last step is longest ago first
        self._preempted: list[Sequence] = []

    @property
    def num_running(self) -> int:
        return len(self._running)

    def sequences(self) -> list[Sequence]:
        """All running sequences, in the order in which they were let in."""
        return list(self._running.values())

    def can_add(self, token_ids: list[int], salt: str, *, shares: bool = True) -> bool:
        """Whether a sequence with these tokens can start now. The margin of one cell for each
        running sequence keeps the next step from preempting a sequence for it."""
        return len(self._running) < self._max_num_seqs and self._kv_cache.can_allocate(
            token_ids, salt, margin=1 + len(self._running), shares=shares
        )

    def add(self, sequence: Sequence) -> None:
        """Let a sequence in; `can_add` has said that it fits."""
        assert sequence.request_id not in self._running, "a request was added twice: this is a bug"
        self._kv_cache.allocate(sequence)
        self._running[sequence.request_id] = sequence

    def remove(self, request_id: str) -> Sequence | None:
        """Take a sequence out and free its cells and slot. None if it is not running."""
        sequence = self._running.pop(request_id, None)
        if sequence is not None:
            self._kv_cache.release(sequence)
        return sequence

    def preempt(self, request_id: str) -> None:
        """Send a running sequence back, to be computed again when there is room."""
        sequence = self.remove(request_id)
        if sequence is not None:
            self._preempted.append(sequence)

    def take_preempted(self) -> list[Sequence]:
        """The sequences that were preempted since the last call."""
        preempted, self._preempted = self._preempted, []
        return preempted

    def schedule(self) -> Batch:
        """Hand out the step's token budget. An empty batch means that there is nothing to do."""
        self._make_room()
        self._restore()
        able = self._able()
        adapter, *others = self._take_turn(able)
        decoding, reading = _divided(able[adapter])
        chunks = [Chunk((seq,), seq.num_computed_tokens, 1) for seq in decoding]
        turn = Turn(len(decoding), len(reading))
        waiting = [Turn(*map(len, _divided(able[each]))) for each in others]
        budget = self._max_num_batched_tokens - len(chunks)
        budget = min(budget, self._pace.num_prompt_tokens(*turn, waiting))
        chunks += self._read_prompts(reading, budget)
        return Batch(chunks, len(decoding), adapter, is_turn=bool(others))

    def _able(self) -> dict[str, list[Sequence]]:
        """The running sequences of each adapter, without those that must wait for the disk. There
        is at least one adapter; "" is none."""
        able: dict[str, list[Sequence]] = {}
        for seq in self._running.values():
            if not self._kv_cache.awaits_disk(seq):
                able.setdefault(seq.request.lora, []).append(seq)
        return able or {"": []}

    def _take_turn(self, able: Collection[str]) -> list[str]:
        """The adapters of all sequences that can go on, in the order of their turns. The first
        one's turn is now, and it is the last from now on. A new one waits for all others first."""
        turns = [*(name for name in self._turns if name in able)]
        turns += [name for name in able if name not in self._turns]
        self._turns = dict.fromkeys([*turns[1:], turns[0]])
        return turns

    def _restore(self) -> None:
        """Load what has come from the disk: while answers stream, for a part of a step."""
        num_decoding = sum(seq.num_remaining_tokens == 1 for seq in self._running.values())
        seconds = self._pace.restoring_seconds(num_decoding)
        self._kv_cache.restore(seconds, self._pace.prompt_token_seconds)

    def commit(self, batch: Batch) -> None:
        """The batch has been computed."""
        for chunk in batch.chunks:
            self._kv_cache.commit(chunk.sequences, chunk.num_tokens)

    def _read_prompts(self, reading: list[Sequence], budget: int) -> list[Chunk]:
        """Half of the budget goes to the first sequence, so that every prompt is read to its end.
        The rest goes to the others, the shortest remaining prompt first, so that a short prompt
        does not wait for a long one. The first sequence gets what they leave."""
        if not reading:
            return []
        first = min(reading, key=_rank)
        others = [sequence for sequence in reading if sequence is not first]
        others.sort(key=lambda sequence: (sequence.request.priority, sequence.num_remaining_tokens))
        plan = _Plan(self._kv_cache, budget, self._pace.scored_weight)
        plan.read(first, most=max(budget // 2, 1) if others else budget)
        for sequence in [*others, first]:
            plan.read(sequence, most=budget)
        return plan.chunks

    def _make_room(self) -> None:
        """A cell for every running sequence's newest token, by preemption if there is none."""
        for seq in sorted(self._running.values(), key=_rank):
            while seq.request_id in self._running and not self._kv_cache.has_cells_for(seq):
                if not self._kv_cache.grow(seq):
                    assert len(self._running) > 1, "one sequence outgrew the whole cache: a bug"
                    self.preempt(max(self._running.values(), key=_rank).request_id)


class _Plan:
    """Chunks of prompts for one step. `positions` are where sequences will stand after them."""

    def __init__(self, kv_cache: KVCache, budget: int, scored_weight: float) -> None:
        self.chunks: list[Chunk] = []
        self._kv_cache = kv_cache
        self._budget = budget
        self._scored_weight = scored_weight
        self._num_scored_left = MAX_SCORED_TOKENS
        self._positions: dict[Sequence, int] = {}

    def read(self, sequence: Sequence, *, most: int) -> None:
        """Let a sequence read on, by `most` tokens at most and as far as the budget goes."""
        position = self._position(sequence)
        weight = 1.0
        if sequence.scores_prompt:
            weight = self._scored_weight
            most = min(most, self._num_scored_left)
        affordable = max(int(min(most, self._budget) / weight), 1) if self._budget > 0 else 0
        end = min(position + min(most, affordable), self._kv_cache.computes_to(sequence, position))
        while position < end:
            run = self._kv_cache.next_run(sequence, position)
            num_tokens = min(run.end, end) - position
            self.chunks.append(Chunk(run.sequences, position, num_tokens))
            self._budget -= round(num_tokens * weight)
            self._num_scored_left -= num_tokens if sequence.scores_prompt else 0
            for each in run.sequences:
                assert self._position(each) == position, "users of a prefix are in step"
                self._positions[each] = position + num_tokens
            position += num_tokens

    def _position(self, sequence: Sequence) -> int:
        return self._positions.get(sequence, sequence.num_computed_tokens)


def _divided(sequences: list[Sequence]) -> tuple[list[Sequence], list[Sequence]]:
    """Those that decode, and those that read a prompt."""
    decoding = [seq for seq in sequences if seq.num_remaining_tokens == 1]
    return decoding, [seq for seq in sequences if seq.num_remaining_tokens > 1]


def _rank(sequence: Sequence) -> tuple[int, float]:
    return sequence.rank
