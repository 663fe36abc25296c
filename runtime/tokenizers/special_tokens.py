"""What every tokenizer does to text first: repair it, and cut it at special tokens."""

import re
from collections.abc import Iterator, Mapping


def clean_text(text: str) -> str:
    """The text with surrogate pairs joined and lone surrogates replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class SpecialTokens:
    """Finds special tokens the way llama.cpp does: the longest first, each over the whole text.

    With `leftmost` as the `tokenizers` library does: the first in the text, of several at one place
    the longest.
    """

    def __init__(self, ids: Mapping[str, int], *, leftmost: bool = False) -> None:
        texts = sorted(filter(None, ids), key=lambda text: len(text.encode()), reverse=True)
        self._ids = {text: ids[text] for text in texts}
        self._pattern = re.compile("(" + "|".join(map(re.escape, texts)) + ")" if texts else "(?!)")
        self._overlap = not leftmost and overlap(texts)

    def split(self, text: str) -> Iterator[str | int]:
        """The text as plain pieces, never empty, and ids of special tokens."""
        if self._pattern.search(text) is None:
            return iter((text,) if text else ())
        if self._overlap:
            return iter(self._split_one_by_one(text))
        pieces = enumerate(self._pattern.split(text))
        return (self._ids[piece] if odd & 1 else piece for odd, piece in pieces if piece)

    def _split_one_by_one(self, text: str) -> list[str | int]:
        fragments: list[str | int] = [text]
        for special, token_id in self._ids.items():
            if special in text:
                fragments = list(_cut(fragments, special, token_id))
        return fragments


def _cut(fragments: list[str | int], special: str, token_id: int) -> Iterator[str | int]:
    for fragment in fragments:
        if isinstance(fragment, int):
            yield fragment
            continue
        first, *others = fragment.split(special)
        if first:
            yield first
        for piece in others:
            yield token_id
            if piece:
                yield piece


def overlap(texts: list[str]) -> bool:
    """Whether one text may end where another begins: then order matters, not position."""
    prefixes = {text[:end] for text in texts for end in range(1, len(text))}
    return any(text[start:] in prefixes for text in texts for start in range(1, len(text)))
