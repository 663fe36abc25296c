"""The first steps of every tokenizer: it repairs the text, and cuts it at special tokens."""

import re
from collections.abc import Iterator, Mapping

from runtime.tokenizers.text_pattern import pattern_of

_WINDOW = 32_768
"""Characters that are searched at once, in some milliseconds."""


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
        self._longest = max(map(len, texts), default=1)
        self._overlap = not leftmost and overlap(texts)

    def split(self, text: str) -> Iterator[str | int]:
        """The text as plain pieces, which are never empty, and ids of special tokens."""
        if find(self._pattern, text, 0, self._longest) is None:
            return iter((text,) if text else ())
        if self._overlap:
            return iter(self._split_one_by_one(text))
        return self._split_in_order(text)

    def _split_in_order(self, text: str) -> Iterator[str | int]:
        position = 0
        while (found := find(self._pattern, text, position, self._longest)) is not None:
            if found.start() > position:
                yield text[position : found.start()]
            yield self._ids[found[0]]
            position = found.end()
        if position < len(text):
            yield text[position:]

    def _split_one_by_one(self, text: str) -> list[str | int]:
        fragments: list[str | int] = [text]
        for special, token_id in self._ids.items():
            if special in text:
                fragments = list(_cut(fragments, special, token_id))
        return fragments


def find(pattern: re.Pattern[str], text: str, position: int, longest: int) -> re.Match[str] | None:
    """What `pattern.search` finds from `position` on, for a pattern of at most `longest` characters
    that looks at nothing around them. A search holds the interpreter, so a long text is searched in
    windows."""
    for start in range(position, len(text), _WINDOW):
        found = pattern.search(text, start, start + _WINDOW + longest - 1)
        if found is not None and found.start() < start + _WINDOW:
            return found
    return None


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
