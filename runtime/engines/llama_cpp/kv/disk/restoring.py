"""Which blocks of running sequences are to come from the disk, and those that have come."""

import itertools
import time
from collections import deque
from collections.abc import Iterable, Iterator

from runtime.engines.llama_cpp.kv.disk.reader import BlockReader
from runtime.engines.llama_cpp.kv.prefix_tree import Block
from runtime.engines.llama_cpp.sequence import Sequence

READ_AHEAD = 16
"""Blocks, of all sequences together, that are read before they are needed."""

PATIENCE_SECONDS = 0.1
"""How much longer than computing its tokens the disk may take for a prefix."""


class _Plan:
    """The blocks that one sequence waits for, as (start, key), in order. It has taken `num_taken`
    others, and waited `waited` seconds for all of them, until `since`."""

    __slots__ = ("blocks", "num_taken", "since", "waited")

    def __init__(self, blocks: Iterable[tuple[int, bytes]]) -> None:
        self.blocks = deque(blocks)
        self.num_taken = 0
        self.waited = 0.0
        self.since: float | None = None

    def wait(self) -> None:
        """The next block is not there yet."""
        now = time.perf_counter()
        self.waited += now - (self.since or now)
        self.since = now

    def pop(self) -> None:
        """The next block has come."""
        self.blocks.popleft()
        self.num_taken += 1
        self.since = None


class Restoring:
    """A sequence needs its blocks one after the other, so the next ones are read while the first
    are loaded. It may compute up to the next block and not beyond. When the disk takes longer than
    computing would, it waits no more and computes all that is left."""

    def __init__(self, reader: BlockReader, block_tokens: int) -> None:
        self._reader = reader
        self._block_tokens = block_tokens
        self._plans: dict[Sequence, _Plan] = {}

    def begin(self, sequence: Sequence, blocks: Iterable[tuple[int, bytes]]) -> None:
        """Have these blocks read for a sequence, given as (start, key)."""
        plan = _Plan(blocks)
        if plan.blocks:
            self._plans[sequence] = plan
            self.read_ahead()

    def end(self, sequence: Sequence) -> None:
        """The sequence waits for no block any more."""
        if self._plans.pop(sequence, None) is not None:
            self.read_ahead()

    def sequences(self) -> list[Sequence]:
        """Those that wait for blocks, in the order in which they began."""
        return list(self._plans)

    def next_start(self, sequence: Sequence, position: int) -> int | None:
        """Where the first block begins of which the sequence needs something behind `position`."""
        plan = self._plans.get(sequence)
        for start, _ in plan.blocks if plan else ():
            if start + self._block_tokens > position:
                return start
        return None

    def awaits(self, sequence: Sequence) -> bool:
        """Whether the sequence can do nothing but wait for a block."""
        start = self.next_start(sequence, sequence.num_computed_tokens)
        return start is not None and start <= sequence.num_computed_tokens

    def take(self, sequence: Sequence, block_seconds: float) -> tuple[bytes, Block] | None:
        """The block with which the sequence can go on, and its key; None if it has not come, or if
        the sequence waits for none. Computing a block would take `block_seconds`."""
        plan = self._plans[sequence]
        self._pass_computed(sequence, plan)
        while self.awaits(sequence):
            start, key = plan.blocks[0]
            if not self._reader.has_read(key):
                plan.wait()
                if plan.waited > PATIENCE_SECONDS + (plan.num_taken + 1) * block_seconds:
                    self.end(sequence)
                return None
            plan.pop()
            if (data := self._reader.take(key)) is not None:
                return key, Block(start, start + self._block_tokens, data)
        return None

    def read_ahead(self) -> None:
        """Have the next blocks read: the first of each sequence before the second of any, so that
        all get on."""
        depth = max(READ_AHEAD // max(len(self._plans), 1), 1)
        columns = [itertools.islice(self._needed(each), depth) for each in self._plans]
        rows = itertools.zip_longest(*columns)
        self._reader.want([key for row in rows for key in row if key is not None])

    def _pass_computed(self, sequence: Sequence, plan: _Plan) -> None:
        """Leave out what another sequence has computed, or loaded, for both."""
        start = self.next_start(sequence, sequence.num_computed_tokens)
        while plan.blocks and plan.blocks[0][0] != start:
            plan.blocks.popleft()
        if not plan.blocks:
            self.end(sequence)

    def _needed(self, sequence: Sequence) -> Iterator[bytes]:
        position = sequence.num_computed_tokens
        blocks = self._plans[sequence].blocks
        return (key for start, key in blocks if start + self._block_tokens > position)
