"""Who holds how many cells of llama.cpp's KV cache, and whose computed prefixes can be reused."""

from typing import NamedTuple, Protocol

from runtime.engines.llama_cpp.prefix_tree import Node, PrefixTree
from runtime.engines.llama_cpp.sequence import NO_SLOT, Sequence


class Memory(Protocol):
    """The real cells, which belong to llama.cpp. A cell is alive while any slot has it."""

    def remove(self, slot: int, start: int = 0, end: int = -1) -> None:
        """Take positions `start` to `end` (-1: all from there) away from a slot."""
        ...

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        """Give `target` the cells that `source` has at positions `start` to `end`."""
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
    """Cells, slots and prefixes. Cells of the tree + private ones + free ones are `num_cells`.

    A sequence that is let in holds cells for every token that it knows, so a prompt that has been
    admitted can always be read to its end. All but its last known token are a path in the prefix
    tree, which it shares with whoever begins alike, computed or not: sequences with a common
    prefix have it computed once, for all of them. The last token and those sampled later are
    private, because each sequence needs its own logits from there on.

    What a finished sequence has computed stays in the tree until its cells or its slot are needed;
    the prefix that has not been used for longest goes first, from its end. Without `sharing` every
    cell is private and nothing stays.
    """

    def __init__(
        self,
        memory: Memory,
        *,
        num_cells: int,
        num_slots: int,
        max_num_seqs: int,
        sharing: bool = True,
    ) -> None:
        self.num_cells = num_cells
        self._memory = memory
        self._sharing = sharing
        self._max_num_idle_slots = num_slots - max_num_seqs
        self._tree = PrefixTree()
        self._holdings: dict[int, _Holding] = {}
        self._idle_leaves: dict[int, Node] = {}
        self._free_slots = list(range(num_slots - 1, -1, -1))
        self._num_held = 0
        self._num_idle = 0
        self._clock = 0

    @property
    def num_free(self) -> int:
        """Cells that nothing is kept in."""
        return self.num_cells - self._num_held

    @property
    def num_idle(self) -> int:
        """Cells of prefixes that no running sequence uses."""
        return self._num_idle

    @property
    def usage(self) -> float:
        """Share of cells that running sequences hold, 0 to 1."""
        return (self._num_held - self._num_idle) / self.num_cells

    @property
    def idle_usage(self) -> float:
        """Share of cells that idle prefixes are kept in, 0 to 1."""
        return self._num_idle / self.num_cells

    def can_allocate(self, token_ids: list[int], salt: str, *, margin: int) -> bool:
        """Whether a sequence with these tokens can be let in, and `margin` more cells be handed out
        afterwards."""
        num_needed, num_idle = len(token_ids) + margin, self._num_idle
        if self._sharing:
            for node, num_tokens in self._tree.match(salt, token_ids[:-1]):
                num_needed -= num_tokens
                if not node.users:
                    num_idle -= num_tokens
        return num_needed <= self.num_free + num_idle

    def allocate(self, sequence: Sequence) -> None:
        """Give the sequence a slot, the cells for the tokens that it knows, and those computed
        tokens that the cache has; `can_allocate` has said that they fit."""
        assert sequence.slot == NO_SLOT, "a sequence got a second slot: this is a bug"
        sequence.slot = self._free_slots.pop()
        prefix = sequence.token_ids[:-1] if self._sharing else []
        node = self._join(sequence, prefix)
        num_private = sequence.num_tokens - node.end
        self._holdings[sequence.slot] = _Holding(node, num_private)
        self._num_held += num_private
        self._reclaim()

    def next_run(self, sequence: Sequence, position: int) -> Run:
        """What comes next for a sequence that has computed `position` tokens."""
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
        """Give the sequence one more cell. False when running sequences hold them all."""
        if not self.num_free and not self._num_idle:
            return False
        node, num_private = self._holdings[sequence.slot]
        self._holdings[sequence.slot] = _Holding(node, num_private + 1)
        self._num_held += 1
        self._reclaim()
        return True

    def release(self, sequence: Sequence) -> None:
        """Take back the slot. What the sequence has computed stays as an idle prefix."""
        node, num_private = self._holdings.pop(sequence.slot)
        self._num_held -= num_private
        node = self._leave(sequence, node)
        if node.is_root:
            node = self._tree.root(sequence.request.cache_salt)  # it may have been forgotten
        if self._sharing and sequence.num_computed_tokens > node.end:
            self._keep(node, sequence)
        elif self._sharing and node.is_idle_leaf:
            self._put_to_rest(node, sequence.slot)
        else:
            self._free_slot(sequence.slot)
        self._tree.drop_if_empty(sequence.request.cache_salt)
        sequence.slot = NO_SLOT
        sequence.num_computed_tokens = 0
        while len(self._idle_leaves) > self._max_num_idle_slots:
            self._forget_oldest_leaf()

    def check_integrity(self) -> None:
        """Raise AssertionError when the books do not add up."""
        nodes = list(self._tree.nodes())
        num_tree = sum(len(node.tokens) for node in nodes)
        num_private = sum(holding.num_private for holding in self._holdings.values())
        assert self._num_held == num_tree + num_private, "held cells do not add up"
        assert 0 <= self._num_held <= self.num_cells, "more cells held than there are"
        num_idle = sum(len(node.tokens) for node in nodes if not node.users)
        assert self._num_idle == num_idle, "idle cells do not add up"
        leaves = {node.slot: node for node in nodes if node.slot != NO_SLOT}
        assert leaves == self._idle_leaves, "the list of idle leaves is wrong"
        slots = [*self._holdings, *self._idle_leaves, *self._free_slots]
        assert len(set(slots)) == len(slots), "a slot has two owners"
        for node in nodes:
            _check_node(node)

    def _join(self, sequence: Sequence, prefix: list[int]) -> Node:
        """Make the sequence a user of its path, with what has been computed of it."""
        salt = sequence.request.cache_salt
        num_known = sum(step.num_tokens for step in self._tree.match(salt, prefix))
        last = self._tree.insert(salt, prefix)
        self._num_held += len(prefix) - num_known
        self._num_idle += len(prefix) - num_known  # until the sequence uses it, a few lines below
        path = [*last.path()][::-1]
        self._copy_computed(sequence, path)
        for node in path:
            self._use(node, sequence)
        return last

    def _copy_computed(self, sequence: Sequence, path: list[Node]) -> None:
        deepest = None
        for node in path:
            if node.num_computed:
                deepest = node
            if not node.is_complete:
                break
        if deepest is None:
            return
        end = deepest.start + deepest.num_computed
        self._memory.copy(_holder(deepest), sequence.slot, 0, end)
        sequence.num_computed_tokens = end
        if not sequence.request.output_token_ids:  # a resumed one finds what it had itself
            sequence.num_cached_tokens = end

    def _use(self, node: Node, sequence: Sequence) -> None:
        if not node.users:
            self._num_idle -= len(node.tokens)
        node.users[sequence] = None
        self._touch(node)
        if node.slot != NO_SLOT:
            del self._idle_leaves[node.slot]
            self._free_slot(node.slot)
            node.slot = NO_SLOT

    def _leave(self, sequence: Sequence, last: Node) -> Node:
        """Take the sequence off its path. Tokens that nobody will compute any more leave the tree;
        returns the last node of the path that is still there."""
        for node in [*last.path()]:
            del node.users[sequence]
            self._touch(node)
            if node.users:
                continue
            num_uncomputed = len(node.tokens) - node.num_computed
            del node.tokens[node.num_computed :]
            self._num_held -= num_uncomputed
            self._num_idle += len(node.tokens)
            if not node.tokens:
                last = self._tree.detach(node)
        return last

    def _keep(self, node: Node, sequence: Sequence) -> None:
        """Hang the private tokens that have been computed below the path. Where the tree has the
        same ones already, its cells stay and the sequence's own go."""
        tokens = sequence.token_ids[node.end : sequence.num_computed_tokens]
        start = node.end
        node, num_known = self._tree.follow(node, tokens)
        self._touch(node)
        if num_known == len(tokens) or tokens[num_known] in node.children:
            self._free_slot(sequence.slot)
            return
        if num_known:
            self._memory.remove(sequence.slot, start, start + num_known)
            self._memory.copy(_holder(node), sequence.slot, start, start + num_known)
        if node.slot != NO_SLOT:
            del self._idle_leaves[node.slot]
            self._free_slot(node.slot)
            node.slot = NO_SLOT
        leaf = self._tree.append(node, tokens[num_known:])
        leaf.num_computed = len(leaf.tokens)
        self._num_held += len(leaf.tokens)
        self._num_idle += len(leaf.tokens)
        self._put_to_rest(leaf, sequence.slot)

    def _put_to_rest(self, leaf: Node, slot: int) -> None:
        leaf.slot = slot
        self._idle_leaves[slot] = leaf
        self._touch(leaf)

    def _touch(self, node: Node) -> None:
        self._clock += 1
        node.last_used = self._clock

    def _reclaim(self) -> None:
        """Free idle cells until no more are held than there are."""
        while self.num_free < 0:
            self._trim(self._oldest_leaf(), -self.num_free)

    def _forget_oldest_leaf(self) -> None:
        """Free a slot, with all cells that only this slot keeps alive."""
        num_leaves = len(self._idle_leaves)
        while len(self._idle_leaves) == num_leaves:
            leaf = self._oldest_leaf()
            self._trim(leaf, len(leaf.tokens))

    def _oldest_leaf(self) -> Node:
        assert self._idle_leaves, "cells were handed out twice: this is a bug"
        return min(self._idle_leaves.values(), key=lambda leaf: leaf.last_used)

    def _trim(self, leaf: Node, num_tokens: int) -> None:
        """Forget the last tokens of an idle leaf, at most all of it."""
        num_tokens = min(num_tokens, len(leaf.tokens))
        self._memory.remove(leaf.slot, leaf.end - num_tokens, leaf.end)
        del leaf.tokens[len(leaf.tokens) - num_tokens :]
        leaf.num_computed = len(leaf.tokens)
        self._num_held -= num_tokens
        self._num_idle -= num_tokens
        if leaf.tokens:
            return
        slot = leaf.slot
        del self._idle_leaves[slot]
        parent = self._tree.detach(leaf)
        if parent.is_idle_leaf:
            parent.slot = slot
            self._idle_leaves[slot] = parent
        else:
            self._free_slot(slot)

    def _free_slot(self, slot: int) -> None:
        self._memory.remove(slot)
        self._free_slots.append(slot)


def _holder(node: Node) -> int:
    """A slot that has every computed cell from the root to the end of this node's computed part."""
    if node.users:
        return next(iter(node.users)).slot
    while node.slot == NO_SLOT:
        node = next(iter(node.children.values()))  # the oldest: a new one has nothing yet
    return node.slot


def _check_node(node: Node) -> None:
    parent = node.parent
    assert parent is not None, "a root among the nodes"
    assert node.tokens, "an empty node"
    assert parent.children[node.tokens[0]] is node, "a node hangs at the wrong token"
    assert node.start == parent.end, "a node starts at the wrong position"
    assert parent.is_root or node.users.keys() <= parent.users.keys(), "a user skips a node"
    assert 0 <= node.num_computed <= len(node.tokens), "more computed than known"
    assert parent.is_complete or not node.num_computed, "computed below what is not"
    assert node.users or node.is_complete, "nobody computes the rest"
    assert (node.slot != NO_SLOT) == node.is_idle_leaf, "an idle leaf needs a slot, others none"
    for user in node.users:
        computed = min(max(user.num_computed_tokens - node.start, 0), len(node.tokens))
        assert computed == node.num_computed, "a user has not what its node has"
