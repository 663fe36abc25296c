"""Finds the part of a JSON schema that causes a known error."""

import json
import time
from collections.abc import Callable
from typing import Any

from runtime.structured.schemas.references import Pointer, fitted_children

MAX_TRIES = 200
MAX_SECONDS = 0.3
"""Maximum number of parts that are tried, and maximum time in seconds. In a larger schema the part
that is found may be larger than it has to be."""

_DEPENDENT = {
    "properties": ("additionalProperties", "patternProperties", "required"),
    "patternProperties": ("additionalProperties",),
}
"""Keywords that have another meaning when one is missing."""

_DEFINITIONS = ("$defs", "definitions", "x-guidance")


def find_mistake(root: dict[str, Any], mistake: Callable[[str], str]) -> Pointer:
    """The smallest part of a schema that alone has the error of the whole, by the keys that lead to
    it; () for the whole. `mistake` returns the error of a schema's text, "" for none."""
    reason = mistake(json.dumps(root))
    return _Search(root, reason, mistake).run() if reason else ()


def alone(root: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """A part as a schema of its own. It gets the definitions that it may refer to."""
    return {**{key: root[key] for key in _DEFINITIONS if key in root}, **part}


def without(part: Any, pointer: Pointer, key: str) -> Any:
    """A copy of a schema in which the part at `pointer` lacks a keyword, and those that would
    forbid more without it."""
    if not pointer:
        gone = {key, *_DEPENDENT.get(key, ())}
        return {name: value for name, value in part.items() if name not in gone}
    first, rest = pointer[0], pointer[1:]
    if isinstance(part, list):
        number = int(first)
        return [*part[:number], without(part[number], rest, key), *part[number + 1 :]]
    return {**part, first: without(part[first], rest, key)}


class _Search:
    def __init__(self, root: dict[str, Any], reason: str, mistake: Callable[[str], str]) -> None:
        self._root = root
        self._reason = reason
        self._mistake = mistake
        self._num_left = MAX_TRIES
        self._deadline = time.monotonic() + MAX_SECONDS

    def run(self) -> Pointer:
        part: dict[str, Any] = self._root
        pointer: Pointer = ()
        while (found := self._descend(part)) is not None:
            keys, part = found
            pointer += keys
        return pointer

    def _descend(self, part: dict[str, Any]) -> tuple[Pointer, dict[str, Any]] | None:
        for keys, child in fitted_children(part):
            if not isinstance(child, dict):
                continue
            if self._num_left == 0 or time.monotonic() >= self._deadline:
                return None
            self._num_left -= 1
            if self._mistake(json.dumps(alone(self._root, child))) == self._reason:
                return keys, child
        return None
