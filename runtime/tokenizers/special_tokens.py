"""The first steps of every tokenizer: it repairs the text, and cuts it at special tokens."""

import re
from collections.abc import Iterator, Mapping

from runtime.tokenizers.text_pattern import pattern_of


def clean_text(text: str) -> str:
    """The text with surrogate pairs joined and lone surrogates replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class SpecialTokens:
    """Finds special tokens as llama.cpp does: it looks for the longest one in the whole text first.

    With `leftmost`, finds them as the `tokenizers` library does: the leftmost in the text first,
    and the longest of several at one place.
    """

    def __init__(self, ids: Mapping[str, int], *, leftmost: bool = False) -> None:
        texts = sorted(filter(None, ids), key=lambda text: len(text.encode()), reverse=True)
        self._ids = {text: ids[text] for text in texts}
        self._pattern = re.compile(f"({pattern_of(texts)})")
        self._overlap = not leftmost and overlap(texts)

    def split(self, text: str) -> Iterator[str | int]:
        """The text as plain pieces, which are never empty, and ids of special tokens."""
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
    """Whether the end of one text may be the beginning of another. Then two may overlap in a text,
    and the one that is looked for first wins."""
    prefixes = {text[:end] for text in texts for end in range(1, len(text))}
    return any(text[start:] in prefixes for text in texts for start in range(1, len(text)))
