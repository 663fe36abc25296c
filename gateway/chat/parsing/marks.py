"""Marks in a text that arrives in pieces."""

from collections.abc import Sequence


def first_mark(text: str, marks: Sequence[str]) -> tuple[int, str]:
    """The position of the first mark, and the mark itself: the longest one if several begin there,
    "" if there is none."""
    found = [(position, mark) for mark in marks if (position := text.find(mark)) >= 0]
    return min(found, default=(len(text), ""), key=lambda place: (place[0], -len(place[1])))


def num_held(text: str, marks: Sequence[str]) -> int:
    """How many characters at the end may be the beginning of a mark."""
    longest = max(map(len, marks), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(mark.startswith(text[-length:]) for mark in marks):
            return length
    return 0
