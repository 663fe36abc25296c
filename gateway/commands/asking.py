"""Asks whoever sits at the terminal before something is lost."""

import sys

from runtime.errors import SetupError


def agrees(question: str, *, verb: str) -> bool:
    """Whether the answer is yes. Raises SetupError where nobody can be asked to `verb` it."""
    if not sys.stdin.isatty():
        raise SetupError(f"nobody can be asked here; say --yes to {verb} without asking")
    print(f"{question} [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
