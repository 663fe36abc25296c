"""The fewest tokens that a text can have, known without tokenizing it.

A token stands for at most as many bytes as the longest token with one of them. So each byte of a
text is at least that share of a token.
"""

from collections.abc import Iterable

_SLICE = 262_144
"""Characters that are counted at once, in about a millisecond."""


class LeastTokens:
    """Counts for one vocabulary. `texts` are the bytes of every token, control tokens with their
    names. It holds for tokenizers that neither drop nor join characters before they look for
    tokens. With `composes` they may join characters into Unicode's composed ones, which leaves at
    least a third of the bytes. A character of ASCII is joined only with one that follows and is
    none."""

    def __init__(self, texts: Iterable[bytes], *, composes: bool = False) -> None:
        longest = [0] * 256
        for text in texts:
            size = len(text)
            for byte in set(text):
                if size > longest[byte]:
                    longest[byte] = size
        self._longest = max(longest)
        self._shortest = min(size for size in longest[:128] if size) if any(longest[:128]) else 1
        self._composes = composes
        self._groups = [
            (size, bytes(byte for byte in range(256) if _rounded(longest[byte]) != size))
            for size in sorted({_rounded(size) for size in longest if size})
        ]

    def count(self, text: str) -> int:
        """At most the number of tokens of this text."""
        starts = range(0, len(text), _SLICE)
        pieces = (text[start : start + _SLICE] for start in starts)
        if self._composes and not text.isascii():
            return max(len(text) // (3 * self._longest), int(sum(map(self._ascii_share, pieces))))
        return int(sum(self._share(piece.encode("utf-8", "replace")) for piece in pieces))

    def _ascii_share(self, piece: str) -> float:
        """The share of the ASCII that is left if every other character is joined with some of
        it."""
        data = piece.encode("ascii", "ignore")
        return self._share(data) - (len(piece) - len(data)) / self._shortest

    def _share(self, data: bytes) -> float:
        return sum(len(data.translate(None, others)) / size for size, others in self._groups)


def _rounded(size: int) -> int:
    """The next power of two, so that there are few groups of bytes."""
    return 1 << (size - 1).bit_length() if size else 0
