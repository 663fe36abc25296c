"""Which blocks of prompts are known already, so that `cached_tokens` says what it would."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any


class PrefixCache:
    """Knows full blocks by the hash of everything up to their end; forgets the oldest ones."""

    def __init__(self, tokens_per_block: int, num_tokens: int, max_events: int = 0) -> None:
        self.tokens_per_block = tokens_per_block
        self.num_blocks = max(1, num_tokens // tokens_per_block)
        self.num_reused = 0
        self.num_missed = 0
        self._known: dict[int, None] = {}
        self._events: deque[dict[str, Any]] = deque(maxlen=max_events)
        self._num_events = 0
        self._record("created", num_blocks_per_cache_level=[self.num_blocks, 0])

    @property
    def num_known(self) -> int:
        return len(self._known)

    def match(self, token_ids: Sequence[int], salt: str | None) -> int:
        """Tokens of the longest known prefix. At least one token is left to be computed."""
        num_blocks = 0
        for key in self._keys(token_ids, salt):
            if key not in self._known:
                break
            num_blocks += 1
        total = len(token_ids) // self.tokens_per_block
        self.num_reused += num_blocks
        self.num_missed += total - num_blocks
        return min(num_blocks * self.tokens_per_block, len(token_ids) - 1)

    def store(self, token_ids: Sequence[int], salt: str | None) -> None:
        new, parent = [], None
        for key in self._keys(token_ids, salt):
            if key not in self._known:
                new.append(key)
            elif not new:
                parent = key
            self._known.pop(key, None)
            self._known[key] = None
        if new:
            blocks = [{"block_hash": key, "cache_level": 0, "priority": 35} for key in new]
            self._record("stored", parent_hash=parent, blocks=blocks)
        self._evict()

    def take_events(self) -> tuple[dict[str, Any], ...]:
        """What happened since the last call, in the records' usual shape (a guess)."""
        events = tuple(self._events)
        self._events.clear()
        return events

    def _evict(self) -> None:
        gone = []
        while len(self._known) > self.num_blocks:
            gone.append(next(iter(self._known)))
            del self._known[gone[-1]]
        if gone:
            self._record("removed", block_hashes=gone)

    def _record(self, kind: str, **data: Any) -> None:
        self._events.append({"event_id": self._num_events, "data": {"type": kind, **data}})
        self._num_events += 1

    def _keys(self, token_ids: Sequence[int], salt: str | None) -> Iterator[int]:
        key = hash(salt)
        size = self.tokens_per_block
        for end in range(size, len(token_ids) + 1, size):
            key = hash((key, *token_ids[end - size : end]))
            yield key
