"""Turns a list of BPE merges into tiktoken's ranks, if that can be done exactly.

tiktoken merges two neighbours whenever their bytes joined are a token. llama.cpp, like the
libraries that train vocabularies, merges only pairs from a list. Both take the same steps if, for
every token, merging its bytes ends with its listed merge. Two kinds of lists have this property and
are recognised here: those that come out of BPE training, one merge for each token, and those made
from tiktoken's vocabularies, with every way to cut a token into two others.
"""

from collections.abc import Iterable
from itertools import pairwise

from msgspec import Struct

_NUM_BYTES = 256
NO_TOKEN = -1


class Ranks(Struct, frozen=True):
    """`ranks` are tiktoken's ranks, by the bytes of tokens. `token_ids` maps a rank to the model's
    id, or to NO_TOKEN for a byte that is no token of the model; None if rank and id are the
    same."""

    ranks: dict[bytes, int]
    token_ids: list[int] | None


def build_ranks(ids: dict[str, int], merges: list[str], whole_words: Iterable[str]) -> Ranks | None:
    """The ranks, or None if tiktoken would give other tokens than merging.

    `ids` are those of all tokens and `merges` the list, both in GPT-2's spelling. A token of
    `whole_words` is found wherever it is a whole word, even if merging does not lead to it.
    """
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    numbers = _number(pairs)
    words = list(numbers)
    if any(word not in ids for word in words[_NUM_BYTES:]):
        return None
    extra = [text for text in whole_words if text not in numbers and bytes_of(text)]
    words += extra
    if len(pairs) == len(numbers) - _NUM_BYTES:
        exact = _are_trained(pairs, numbers) and not _splits(extra, set(words))
    else:
        exact = _are_grouped(pairs) and _are_all_splits(pairs, words)
    return _ranks(words, ids) if exact else None


def bytes_of(text: str) -> bytes | None:
    """The bytes that a token in GPT-2's spelling stands for; None if it is not in that spelling."""
    try:
        return text.translate(_TO_BYTES).encode("latin-1")
    except UnicodeEncodeError:
        return None


def spelling_of(data: bytes) -> str:
    """Bytes in GPT-2's spelling: one printable character for each."""
    return data.decode("latin-1").translate(_TO_TEXT)


def _number(pairs: list[tuple[str, str]]) -> dict[str, int]:
    """All tokens that merging can make, in merge order; the bytes come first."""
    numbers = {chr(text): byte for byte, text in _TO_TEXT.items()}
    for left, right in pairs:
        numbers.setdefault(left + right, len(numbers))
    return numbers


def _are_trained(pairs: list[tuple[str, str]], numbers: dict[str, int]) -> bool:
    """Whether merging the bytes of each token ends with its merge in the list."""
    parts = [(byte, byte) for byte in range(_NUM_BYTES)]
    for number, (left, right) in enumerate(pairs, _NUM_BYTES):
        part = numbers.get(left, number), numbers.get(right, number)
        if max(part) >= number:
            return False
        parts.append(part)
    merged = {part: number for number, part in enumerate(parts) if number >= _NUM_BYTES}
    return all(_is_reached(part, number, parts, merged) for part, number in merged.items())


def _is_reached(
    part: tuple[int, int],
    limit: int,
    parts: list[tuple[int, int]],
    merged: dict[tuple[int, int], int],
) -> bool:
    """Whether no merge before number `limit` joins something across the border between two parts.

    Takes the two parts apart again, the later merge first, and looks at each pair of neighbours
    that ever met at the border.
    """
    left, right = part
    while merged.get((left, right), limit) >= limit:
        # A byte cannot be taken apart. Of two equal numbers the left one was merged first.
        if left > right and left >= _NUM_BYTES:
            left, limit = parts[left][1], left
        elif right >= _NUM_BYTES:
            right, limit = parts[right][0], right + 1
        elif left >= _NUM_BYTES:
            left, limit = parts[left][1], left
        else:
            return True
    return False


def _are_grouped(pairs: list[tuple[str, str]]) -> bool:
    """Whether all ways to make the same token stand together in the list."""
    made = [left + right for left, right in pairs]
    return len(set(made)) == 1 + sum(one != other for one, other in pairwise(made))


def _are_all_splits(pairs: list[tuple[str, str]], words: list[str]) -> bool:
    """Whether the list has every way to cut a word into two words, and nothing else."""
    known = set(words)
    listed = set(pairs)
    inside = all(left in known and right in known for left, right in listed)
    return inside and len(listed) == _splits(words, known)


def _splits(words: list[str], known: set[str]) -> int:
    """How many ways there are to cut one of `words` into two known ones."""
    return sum(
        word[:cut] in known and word[cut:] in known for word in words for cut in range(1, len(word))
    )


def _ranks(words: list[str], ids: dict[str, int]) -> Ranks:
    encoded = [bytes_of(word) or b"" for word in words]
    token_ids = [ids.get(word, NO_TOKEN) for word in words]
    ascending = all(one < other for one, other in pairwise(token_ids[_NUM_BYTES:]))
    if ascending and NO_TOKEN not in token_ids:
        # Only the order of merged tokens counts, so that the model's ids can be the ranks.
        return Ranks(dict(zip(encoded, token_ids, strict=True)), None)
    return Ranks({data: rank for rank, data in enumerate(encoded)}, token_ids)


def _spelling() -> dict[int, int]:
    """GPT-2's spelling: printable Latin-1 stands for itself, all else for U+0100 and on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    shown = {byte: byte for byte in printable} | {b: 0x100 + i for i, b in enumerate(others)}
    return dict(sorted(shown.items()))


_TO_TEXT = _spelling()
# A character that spells no byte must not pass for one; it maps outside Latin-1.
_TO_BYTES = dict.fromkeys(range(256), 0xFFFF) | {text: byte for byte, text in _TO_TEXT.items()}
