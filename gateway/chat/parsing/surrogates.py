"""Unpaired surrogates in JSON: escapes such as `\\ud800` that stand for no character. Pure.

A text with an unpaired surrogate cannot be encoded as UTF-8, so it is caught where it enters: in
request bodies and in model output.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

MAX_SEARCHED = 200_000
"""Commas in a body that is searched: Python's decoder holds the interpreter until its end."""

_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_HALF = re.compile("[\ud800-\udfff]")


def find_half(body: bytes) -> str | None:
    """The path of the first text with an unpaired surrogate, such as `messages[0].content`; for a
    key, the path of its object. None if there is none, or if the body is not JSON. The path is ""
    if the body has too many values to look through."""
    if not _ESCAPE.search(body):
        return None
    if body.count(b",") > MAX_SEARCHED:
        return ""
    try:
        return next(_places(json.loads(body.decode()), ""), None)
    except (ValueError, RecursionError):
        return None


def escaped(text: str) -> str:
    """The same JSON, with unpaired surrogates written as escapes again."""
    return _HALF.sub(lambda half: f"\\u{ord(half[0]):04x}", text)


def _places(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, str) and _HALF.search(value):
        yield path
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _places(item, f"{path}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            if _HALF.search(key):
                yield path
            yield from _places(item, f"{path}.{key}" if path else key)
