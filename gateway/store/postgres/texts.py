"""Texts in a form that PostgreSQL takes: it has no NUL in them."""

import re
from collections.abc import Iterable


def written(values: Iterable[object]) -> list[object]:
    """The values with each NUL of a text as a backslash and a 0, and each backslash as two."""
    return [
        value.replace("\\", r"\\").replace("\0", r"\0") if isinstance(value, str) else value
        for value in values
    ]


def read(text: str) -> str:
    """The text that was written so."""
    if "\\" not in text:
        return text
    return re.sub(r"\\(.)", lambda found: "\0" if found[1] == "0" else found[1], text)
