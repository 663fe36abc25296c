"""A regular expression that finds any of many texts, in a time that does not grow with their
number."""

import re
from collections.abc import Iterable
from typing import Any

_END = ""
_Trie = dict[str, Any]


def pattern_of(texts: Iterable[str]) -> str:
    """The pattern of the leftmost text, and of the longest of several at one place. Without texts
    it matches nothing.

    Texts with the same beginning share it, so that no place of a string is compared with all of
    them.
    """
    trie: _Trie = {}
    for text in filter(None, texts):
        node = trie
        for character in text:
            node = node.setdefault(character, {})
        node[_END] = {}
    return _alternatives(trie) if trie else "(?!)"


def _alternatives(node: _Trie) -> str:
    branches = [_branch(character, below) for character, below in node.items() if character]
    if not branches:
        return ""
    joined = branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"
    if _END not in node:
        return joined
    return f"(?:{joined})?"


def _branch(character: str, node: _Trie) -> str:
    """A run of characters without a fork, and what may follow it."""
    run = [character]
    while len(node) == 1 and _END not in node:
        [(character, node)] = node.items()
        run.append(character)
    return re.escape("".join(run)) + _alternatives(node)
