"""Numbers in options of a command line, for argparse's `type`."""

import argparse
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

MAX_WHOLE = 2**31 - 1

T = TypeVar("T", int, float)


def whole_number(minimum: int, maximum: int = MAX_WHOLE) -> Callable[[str], int]:
    """Reads a whole number within these bounds. Everything else is wrong usage."""
    return lambda text: _read(int, text, "a whole number", minimum, maximum)


def number(minimum: float, maximum: float) -> Callable[[str], float]:
    """Reads a number within these bounds. Everything else is wrong usage, `nan` included."""
    return lambda text: _read(float, text, "a number", minimum, maximum)


def _read(kind: Callable[[str], T], text: str, words: str, minimum: T, maximum: T) -> T:
    with suppress(ValueError):
        value = kind(text)
        if minimum <= value <= maximum:
            return value
    shown = text if len(text) <= 40 else f"{text[:40]}…"
    message = f"{shown!r} is not {words} from {minimum:,} to {maximum:,}"
    raise argparse.ArgumentTypeError(message)
