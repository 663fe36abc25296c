"""Which blocks of prompts are known already, so that `cached_tokens` says what it would."""

from collections.abc import Iterator, Sequence


class PrefixCache:
    """Knows full blocks by the hash of everything up to their end; forgets the oldest ones."""

    def __init__(self, tokens_per_block: int, num_tokens: int) -> None:
        self.tokens_per_block = tokens_per_block
        self.num_blocks = max(1, num_tokens // tokens_per_block)
        self._known: dict[int, None] = {}

    def match(self, token_ids: Sequence[int], salt: str | None) -> int:
        """Tokens of the longest known prefix. At least one token is left to be computed."""
        num_blocks = 0
        for key in self._keys(token_ids, salt):
            if key not in self._known:
                break
            num_blocks += 1
        return min(num_blocks * self.tokens_per_block, len(token_ids) - 1)

    def store(self, token_ids: Sequence[int], salt: str | None) -> None:
        for key in self._keys(token_ids, salt):
            self._known.pop(key, None)
            self._known[key] = None
        while len(self._known) > self.num_blocks:
            del self._known[next(iter(self._known))]

    def _keys(self, token_ids: Sequence[int], salt: str | None) -> Iterator[int]:
        key = hash(salt)
        size = self.tokens_per_block
        for end in range(size, len(token_ids) + 1, size):
            key = hash((key, *token_ids[end - size : end]))
            yield key
