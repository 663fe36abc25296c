"""A radix tree of token prefixes, computed ones and ones that a running sequence will compute.

The tree holds structure only; `KVCache` owns cells and slots.
"""

from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from typing import NamedTuple

from runtime.engines.llama_cpp.sequence import Sequence


class Block(NamedTuple):
    """Keys and values of the tokens at positions `start` to `end`, as bytes."""

    start: int
    end: int
    data: bytes


class Node:
    """A run of tokens that every prefix below it shares.

    The first `num_computed` of `tokens` have been computed; a node that is not complete has no
    computed token below it. `users` are the running sequences whose known prefix covers the node,
    always to its end; all of them have the computed part in their slots. `blocks` is a copy of a
    complete node outside the cache, or empty; the first and the last may reach beyond the node.
    A node without users has such a copy and no cells.
    """

    __slots__ = (
        "blocks",
        "children",
        "num_computed",
        "parent",
        "start",
        "tokens",
        "users",
    )

    def __init__(self, parent: "Node | None", start: int, tokens: list[int]) -> None:
        self.parent = parent
        self.start = start
        self.tokens = tokens
        self.num_computed = 0
        self.children: dict[int, Node] = {}
        self.users: dict[Sequence, None] = {}
        self.blocks: list[Block] = []

    @property
    def end(self) -> int:
        """Length of the prefix from the root to the end of this node."""
        return self.start + len(self.tokens)

    @property
    def is_root(self) -> bool:
        return self.parent is None

    @property
    def is_complete(self) -> bool:
        return self.num_computed == len(self.tokens)

    @property
    def num_bytes(self) -> int:
        """Size of the copy outside the cache."""
        return sum(len(block.data) for block in self.blocks)

    @property
    def is_idle_leaf(self) -> bool:
        """Whether the node has no users and no children, so that it may be forgotten first."""
        return not (self.is_root or self.users or self.children)

    def path(self) -> Iterator["Node"]:
        """This node and those above it, without the root."""
        node = self
        while node.parent is not None:
            yield node
            node = node.parent


class Root(Node):
    """Where the prefixes of one salt begin."""

    __slots__ = ("salt",)

    def __init__(self, salt: str) -> None:
        super().__init__(None, 0, [])
        self.salt = salt


class Step(NamedTuple):
    """A node on the way of a match, and how many of its tokens matched: all but in the last."""

    node: Node
    num_tokens: int


class PrefixTree:
    """One tree for each salt: prefixes of different salts never meet. A salt without prefixes is
    forgotten, because clients choose salts."""

    def __init__(self) -> None:
        self._roots: dict[str, Root] = {}
        self.num_bytes = 0
        """Size of all copies outside the cache; a block that two nodes share counts twice."""

    def root(self, salt: str) -> Node:
        """Where to hang a prefix of this salt."""
        return self._roots.setdefault(salt, Root(salt))

    def match(self, salt: str, tokens: list[int]) -> Iterator[Step]:
        """The longest prefix of `tokens` that the tree has, node by node."""
        root = self._roots.get(salt)
        return iter(()) if root is None else _descend(root, tokens)

    def insert(self, salt: str, tokens: list[int]) -> Node:
        """The node that ends exactly where `tokens` end. Nodes added for it are uncomputed."""
        node = self.root(salt)
        for step in _descend(node, tokens):
            node = self.split(step.node, step.num_tokens)
        return self.append(node, tokens[node.end :]) if node.end < len(tokens) else node

    def follow(self, node: Node, tokens: list[int]) -> Step:
        """Walk down from `node` along `tokens` as far as they are computed. Returns the node where
        that ends, split there if need be, and how many tokens led to it."""
        num_tokens = 0
        for step in _descend(node, tokens):
            num_computed = min(step.num_tokens, step.node.num_computed)
            if not num_computed:
                break
            node = self.split(step.node, num_computed)
            num_tokens += num_computed
            if num_computed < step.num_tokens:
                break
        return Step(node, num_tokens)

    def append(self, parent: Node, tokens: list[int]) -> Node:
        """A new leaf. No child of `parent` may begin with the same token."""
        assert tokens[0] not in parent.children, "a prefix is in the tree twice: this is a bug"
        node = Node(parent, parent.end, tokens)
        parent.children[tokens[0]] = node
        return node

    def split(self, node: Node, num_tokens: int) -> Node:
        """Cut a node after `num_tokens`; returns the upper part. The lower part stays the same
        object, so whoever ends in it still does."""
        if num_tokens == len(node.tokens):
            return node
        assert node.parent is not None, "the root has no tokens"
        upper = Node(node.parent, node.start, node.tokens[:num_tokens])
        upper.num_computed = min(node.num_computed, num_tokens)
        upper.users = dict(node.users)
        self.num_bytes -= node.num_bytes
        upper.blocks = [block for block in node.blocks if block.start < upper.end]
        node.blocks = [block for block in node.blocks if block.end > upper.end]
        self.num_bytes += upper.num_bytes + node.num_bytes
        node.parent.children[upper.tokens[0]] = upper
        node.parent = upper
        node.start += num_tokens
        node.tokens = node.tokens[num_tokens:]
        node.num_computed -= upper.num_computed
        upper.children[node.tokens[0]] = node
        return upper

    def store(self, node: Node, blocks: list[Block]) -> None:
        """Keep a copy of a complete node."""
        self.num_bytes -= node.num_bytes
        node.blocks = blocks
        self.num_bytes += node.num_bytes

    def detach(self, node: Node) -> Node:
        """Take a leaf out; returns what was above it."""
        assert node.parent is not None, "the root is never taken out"
        assert not node.children, "only leaves are taken out"
        parent = node.parent
        self.num_bytes -= node.num_bytes
        # An emptied node no longer knows its first token.
        key = next(key for key, child in parent.children.items() if child is node)
        del parent.children[key]
        if isinstance(parent, Root):
            self.drop_if_empty(parent.salt)
        return parent

    def drop_if_empty(self, salt: str) -> None:
        """Forget a salt without prefixes."""
        root = self._roots.get(salt)
        if root is not None and not root.children:
            del self._roots[salt]

    def nodes(self) -> Iterator[Node]:
        """Every node but the roots, parents first."""
        stack: list[Node] = [*self._roots.values()]
        while stack:
            node = stack.pop()
            if not node.is_root:
                yield node
            stack.extend(node.children.values())


def _descend(node: Node, tokens: list[int]) -> Iterator[Step]:
    """Steps below `node` along `tokens`. The caller may split a step's node: the walk goes on from
    the lower end only when all of it matched."""
    position = 0
    while position < len(tokens) and (child := node.children.get(tokens[position])) is not None:
        size = len(child.tokens)
        num_tokens = common_length(child.tokens, tokens[position : position + size])
        yield Step(child, num_tokens)
        if num_tokens < size:
            return
        position += num_tokens
        node = child


def common_length(first: SequenceOf[int], second: SequenceOf[int]) -> int:
    """Length of the common prefix of two sequences. Bisects instead of stepping, because comparing
    slices costs nanoseconds a token."""
    low, high = 0, min(len(first), len(second))
    if first[:high] == second[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle
    return low
