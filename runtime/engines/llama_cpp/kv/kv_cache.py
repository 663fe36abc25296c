"""Which sequence holds how many cells of llama.cpp's KV cache, and which prefixes can be reused."""

import time
from collections import OrderedDict
from typing import NamedTuple, Protocol

from runtime.engines.llama_cpp.kv.disk.tier import DiskTier
from runtime.engines.llama_cpp.kv.prefix_tree import Block, Node, PrefixTree
from runtime.engines.llama_cpp.sequence import NO_SLOT, Sequence
from runtime.errors import EngineError

BLOCK_TOKENS = 64
"""Tokens that are copied out of the cache together. A prefix may end anywhere in a block; the
block is then loaded whole and cut. So the memory has this many cells more than `num_cells`."""

MAX_SAVED_FOR_DISK = 8
"""Blocks that are copied out for the disk alone when a sequence ends. A block that is not copied
for the memory as well belongs to others that run, or to two nodes; their ends come too."""


class Memory(Protocol):
    """The real cells, which belong to llama.cpp. A cell is alive while any slot has it."""

    def remove(self, slot: int) -> None:
        """Take all cells away from a slot."""
        ...

    def share(self, source: int, target: int, start: int, end: int) -> None:
        """Give `target` the cells that `source` has at positions `start` to `end`."""
        ...

    def save(self, slot: int, start: int, end: int) -> bytes:
        """A copy of the contents of a slot's cells at positions `start` to `end`."""
        ...

    def load(self, slot: int, block: Block, start: int, end: int) -> None:
        """Fill new cells of a slot at positions `start` to `end`, which the block covers. Raises
        EngineError when the block does not fit, and leaves nothing then."""
        ...


class Run(NamedTuple):
    """Tokens up to position `end` that all of `sequences` need next."""

    sequences: tuple[Sequence, ...]
    end: int


class _Holding(NamedTuple):
    """What a running sequence holds: its path down to `node`, and cells of its own."""

    node: Node
    num_private: int


class KVCache:
    """Cells, slots and prefixes. Cells of nodes that are in use + private ones + free ones are
    `num_cells`.

    A sequence that is let in holds cells for every token that it knows, so a prompt that has been
    admitted can always be read to its end. All but its last known token are a path in the prefix
    tree, computed or not, which it shares with all sequences that begin alike. A common prefix is
    computed once for all of its sequences. The last token and those sampled later are
    private, because each sequence needs its own logits from there on.

    A prefix without users leaves the cells and stays as a copy in plain memory. Copies take at most
    `max_num_bytes`; the least recently used leaf is forgotten first. Prefixes leave the cells
    because every occupied cell makes every step slower, and copying a token takes a thousandth of
    the time of computing it. Without
    `sharing` every cell is private and nothing stays.

    Below the copies lies the `disk`, where there is one. A block that is there is read back instead
    of computed: the sequence holds its cells from the beginning, and waits for it as others wait
    for their turn to be computed.
    """

    def __init__(
        self,
        memory: Memory,
        *,
        num_cells: int,
        num_slots: int,
        max_num_bytes: int,
        sharing: bool = True,
        block_tokens: int = BLOCK_TOKENS,
        disk: DiskTier | None = None,
    ) -> None:
        self.num_cells = num_cells
        self._memory = memory
        self._sharing = sharing
        self._max_num_bytes = max_num_bytes
        self._block_tokens = block_tokens
        self._disk = disk
        self._tree = PrefixTree()
        self._holdings: dict[int, _Holding] = {}
        self._free_slots = list(range(num_slots - 1, -1, -1))
        self._num_held = 0
        # The first leaf is the first to be forgotten.
        self._idle_leaves: OrderedDict[Node, None] = OrderedDict()

    @property
    def num_free(self) -> int:
        """Number of cells that no sequence holds."""
        return self.num_cells - self._num_held

    @property
    def usage(self) -> float:
        """Share of cells that are held, 0 to 1."""
        return self._num_held / self.num_cells

    @property
    def prefix_usage(self) -> float:
        """Share of the memory for copies that is in use, 0 to 1."""
        return self._tree.num_bytes / self._max_num_bytes if self._max_num_bytes else 0.0

    def can_allocate(
        self, token_ids: list[int], salt: str, *, margin: int, shares: bool = True
    ) -> bool:
        """Whether a sequence with these tokens can be let in, and `margin` more cells be handed out
        afterwards. One that `shares` nothing needs a cell for each token."""
        num_needed = len(token_ids) + margin
        if num_needed > self.num_free and self._sharing and shares:
            steps = self._tree.match(salt, token_ids[:-1])
            num_needed -= sum(step.num_tokens for step in steps if step.node.users)
        return num_needed <= self.num_free

    def allocate(self, sequence: Sequence) -> None:
        """Give the sequence a slot, cells for its known tokens, and the keys and values already
        computed for them. `can_allocate` must have returned True."""
        assert sequence.slot == NO_SLOT, "a sequence got a second slot: this is a bug"
        sequence.slot = self._free_slots.pop()
        shares = self._sharing and not sequence.scores_prompt
        prefix = sequence.token_ids[:-1] if shares else []
        node = self._join(sequence, prefix)
        num_private = sequence.num_tokens - node.end
        self._holdings[sequence.slot] = _Holding(node, num_private)
        self._num_held += num_private
        assert self.num_free >= 0, "cells were handed out twice: this is a bug"
        if self._disk is not None:
            self._disk.begin(sequence, node.end)

    def awaits_disk(self, sequence: Sequence) -> bool:
        """Whether the sequence can do nothing but wait for the disk."""
        return self._disk is not None and self._disk.restoring.awaits(sequence)

    def computes_to(self, sequence: Sequence, position: int) -> int:
        """How far a sequence that stands at `position` may compute: to the next block that is read
        from the disk, or to its end."""
        if self._disk is None:
            return sequence.num_tokens
        start = self._disk.restoring.next_start(sequence, position)
        return sequence.num_tokens if start is None else max(start, position)

    def restore(self, seconds: float, token_seconds: float) -> None:
        """Load what has come from the disk, for about `seconds`. Computing a token would take
        `token_seconds`."""
        if self._disk is None:
            return
        started = time.perf_counter()
        restoring = self._disk.restoring
        for sequence in restoring.sequences():
            while found := restoring.take(sequence, token_seconds * self._block_tokens):
                self._load_from_disk(sequence, *found)
                restoring.read_ahead()
                if time.perf_counter() - started > seconds:
                    return

    def next_run(self, sequence: Sequence, position: int) -> Run:
        """The next run for a sequence that has computed `position` tokens."""
        node, _ = self._holdings[sequence.slot]
        if position >= node.end:
            return Run((sequence,), sequence.num_tokens)
        while position < node.start:
            assert node.parent is not None, "the root starts at 0"
            node = node.parent
        return Run(tuple(node.users), node.end)

    def commit(self, sequences: tuple[Sequence, ...], num_tokens: int) -> None:
        """Tokens of a run have been computed, in every slot of `sequences`."""
        for sequence in sequences:
            sequence.num_computed_tokens += num_tokens
        last, _ = self._holdings[sequences[0].slot]
        end = sequences[0].num_computed_tokens
        if end - num_tokens >= last.end:
            return  # private tokens
        for node in last.path():
            node.num_computed = max(node.num_computed, min(len(node.tokens), end - node.start))

    def has_cells_for(self, sequence: Sequence) -> bool:
        """Whether every token that the sequence knows has a cell."""
        node, num_private = self._holdings[sequence.slot]
        return node.end + num_private >= sequence.num_tokens

    def grow(self, sequence: Sequence) -> bool:
        """Give the sequence one more cell. False when there is none."""
        if not self.num_free:
            return False
        node, num_private = self._holdings[sequence.slot]
        self._holdings[sequence.slot] = _Holding(node, num_private + 1)
        self._num_held += 1
        return True

    def release(self, sequence: Sequence) -> None:
        """Take back slot and cells. What the sequence has computed can be reused from now on."""
        node, num_private = self._holdings.pop(sequence.slot)
        self._num_held -= num_private
        node = self._leave(sequence, node)
        if self._sharing:
            self._keep_private(sequence, node)
            self._write_behind(sequence)
        self._memory.remove(sequence.slot)
        self._free_slots.append(sequence.slot)
        sequence.slot = NO_SLOT
        sequence.num_computed_tokens = 0
        self._forget_down_to(self._max_num_bytes)
        self._tree.drop_if_empty(sequence.cache_salt)

    def check_integrity(self) -> None:
        """Raise AssertionError when cells, slots, bytes or nodes are inconsistent."""
        nodes = list(self._tree.nodes())
        num_live = sum(len(node.tokens) for node in nodes if node.users)
        num_private = sum(holding.num_private for holding in self._holdings.values())
        assert self._num_held == num_live + num_private, "held cells do not add up"
        assert 0 <= self._num_held <= self.num_cells, "more cells held than there are"
        num_bytes = sum(node.num_bytes for node in nodes)
        assert self._tree.num_bytes == num_bytes, "bytes do not add up"
        idle_leaves = {node for node in nodes if node.is_idle_leaf}
        assert set(self._idle_leaves) == idle_leaves, "the list of idle leaves is wrong"
        slots = [*self._holdings, *self._free_slots]
        assert len(set(slots)) == len(slots), "a slot has two owners"
        for node in nodes:
            _check_node(node)

    def _join(self, sequence: Sequence, prefix: list[int]) -> Node:
        """Make the sequence a user of its path, and give it the path's computed part."""
        last = self._tree.insert(sequence.cache_salt, prefix)
        for node in [*last.path()][::-1]:
            self._bring_in(node, sequence)
            if not node.users:
                self._num_held += len(node.tokens)
            node.users[sequence] = None
            self._touch(node)
        if not sequence.request.output_token_ids:  # a resumed sequence finds its own earlier tokens
            sequence.num_cached_tokens = sequence.num_computed_tokens
        return last

    def _bring_in(self, node: Node, sequence: Sequence) -> None:
        """Give the sequence the computed part of the next node on its path."""
        end = node.start + node.num_computed
        if node.users:
            if end > node.start:
                self._memory.share(next(iter(node.users)).slot, sequence.slot, node.start, end)
        else:
            for block in node.blocks:
                start = max(block.start, node.start)
                self._memory.load(sequence.slot, block, start, min(block.end, node.end))
        sequence.num_computed_tokens += node.num_computed

    def _leave(self, sequence: Sequence, last: Node) -> Node:
        """Take the sequence off its path, and copy out the nodes of which it was the last user.
        Tokens that no sequence will compute any more leave the tree. Returns the last node that
        remains."""
        for node in [*last.path()]:
            del node.users[sequence]
            if node.users:
                continue
            self._num_held -= len(node.tokens)
            del node.tokens[node.num_computed :]
            if node.tokens:
                self._save(node, sequence.slot)
                self._touch(node)
            else:
                last = self._tree.detach(node)
        if last.is_root:
            return self._tree.root(sequence.cache_salt)  # it may have been forgotten
        return last

    def _keep_private(self, sequence: Sequence, node: Node) -> None:
        """Copy out the private tokens that have been computed, below the path; the tree may have
        some of them already."""
        tokens = sequence.token_ids[node.end : sequence.num_computed_tokens]
        node, num_known = self._tree.follow(node, tokens)
        if num_known == len(tokens) or tokens[num_known] in node.children:
            self._touch(node)
            return  # nothing new, or another sequence is computing it now
        leaf = self._tree.append(node, tokens[num_known:])
        leaf.num_computed = len(leaf.tokens)
        self._save(leaf, sequence.slot)
        self._touch(node)
        self._touch(leaf)

    def _save(self, node: Node, slot: int) -> None:
        """Keep a copy of a complete node, unless there is one from an earlier time."""
        if node.blocks:
            return
        blocks = []
        start = node.start
        while start < node.end:  # blocks end at multiples of their size, as those on disk do
            end = min(start - start % self._block_tokens + self._block_tokens, node.end)
            blocks.append(Block(start, end, self._memory.save(slot, start, end)))
            start = end
        self._tree.store(node, blocks)

    def _write_behind(self, sequence: Sequence) -> None:
        """Have the blocks written that the disk has not."""
        if self._disk is None:
            return
        self._disk.restoring.end(sequence)
        copies = self._copies_of(sequence) if (unwritten := self._disk.unwritten(sequence)) else {}
        num_saved = 0
        for start, key in unwritten:
            if start in copies:
                self._disk.write(key, copies[start])
            elif num_saved < MAX_SAVED_FOR_DISK:
                end = start + self._block_tokens
                self._disk.write(key, self._memory.save(sequence.slot, start, end))
                num_saved += 1

    def _copies_of(self, sequence: Sequence) -> dict[int, bytes]:
        """The copies of a sequence's full blocks that are in memory, by the position at which they
        begin."""
        tokens = sequence.token_ids[: sequence.num_computed_tokens]
        return {
            block.start: block.data
            for node, num_tokens in self._tree.match(sequence.cache_salt, tokens)
            for block in node.blocks
            if block.start % self._block_tokens == 0
            and block.end - block.start == self._block_tokens
            and block.end <= node.start + num_tokens
        }

    def _load_from_disk(self, sequence: Sequence, key: bytes, block: Block) -> None:
        """Fill the cells of all sequences that need what a block holds, as if it were computed."""
        assert self._disk is not None, "no disk, and something was read: this is a bug"
        while (position := sequence.num_computed_tokens) < block.end:
            sequences, run_end = self.next_run(sequence, position)
            end = min(run_end, block.end)
            first, *others = (each.slot for each in sequences)
            try:
                self._memory.load(first, block, position, end)
            except EngineError:
                self._disk.discard(key)
                return
            for other in others:
                self._memory.share(first, other, position, end)
            self.commit(sequences, end - position)
            self._disk.count_hit(_count_as_cached(sequences, end - position))

    def _touch(self, node: Node) -> None:
        """Mark a node as just used: if it is an idle leaf, it is the last to be forgotten."""
        self._idle_leaves.pop(node, None)
        if node.is_idle_leaf:
            self._idle_leaves[node] = None

    def _forget_down_to(self, num_bytes: int) -> None:
        """Forget idle leaves, the least recently used first, until no more bytes are kept."""
        while self._tree.num_bytes > num_bytes and self._idle_leaves:
            node, _ = self._idle_leaves.popitem(last=False)
            parent = self._tree.detach(node)
            if parent.is_idle_leaf:  # last used when its last child was
                self._idle_leaves[parent] = None
                self._idle_leaves.move_to_end(parent, last=False)


def _count_as_cached(sequences: tuple[Sequence, ...], num_tokens: int) -> int:
    """Note in each sequence that it was spared these tokens; returns how many that is in all. One
    that resumes has been told its number before."""
    fresh = [each for each in sequences if not each.request.output_token_ids]
    for sequence in fresh:
        sequence.num_cached_tokens += num_tokens
    return len(fresh) * num_tokens


def _check_node(node: Node) -> None:
    parent = node.parent
    assert parent is not None, "a root among the nodes"
    assert node.tokens, "an empty node"
    assert parent.children[node.tokens[0]] is node, "a node hangs at the wrong token"
    assert node.start == parent.end, "a node starts at the wrong position"
    assert parent.is_root or node.users.keys() <= parent.users.keys(), "a user skips a node"
    assert 0 <= node.num_computed <= len(node.tokens), "more computed than known"
    assert parent.is_complete or not node.num_computed, "computed below what is not"
    for user in node.users:
        computed = min(max(user.num_computed_tokens - node.start, 0), len(node.tokens))
        assert computed == node.num_computed, "a user has not what its node has"
    if node.users and not node.blocks:
        return
    assert node.is_complete, "a copy of what is not computed, or nobody who computes it"
    position = node.start
    for block in node.blocks:
        assert block.start <= position < block.end, "a copy has a gap"
        position = block.end
    assert position >= node.end, "a copy ends too early"
