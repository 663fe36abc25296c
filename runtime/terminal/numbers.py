"""Numbers in options of a command line, for argparse's `type`."""

import argparse
from collections.abc import Callable

MAX_WHOLE = 2**31 - 1


def whole_number(minimum: int, maximum: int = MAX_WHOLE) -> Callable[[str], int]:
    """Reads a whole number within these bounds. Everything else is wrong usage."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if not minimum <= value <= maximum:
            raise _wrong(text, "a whole number", minimum, maximum)
        return value

    return read


def number(minimum: float, maximum: float) -> Callable[[str], float]:
    """Reads a number within these bounds. Everything else is wrong usage, `nan` included."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = minimum - 1
        if not minimum <= value <= maximum:
            raise _wrong(text, "a number", minimum, maximum)
        return value

    return read


def _wrong(text: str, kind: str, minimum: float, maximum: float) -> argparse.ArgumentTypeError:
    shown = text if len(text) <= 40 else f"{text[:40]}…"
    return argparse.ArgumentTypeError(f"{shown!r} is not {kind} from {minimum:,} to {maximum:,}")
