"""Finds the part of a JSON schema that causes a known error."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

MAX_TRIES = 200
MAX_SECONDS = 0.5
"""Maximum number of parts that are tried, and maximum time in seconds. In a larger schema the path
that is found may be less exact."""

_NAMED = ("properties", "patternProperties", "$defs", "definitions")
_SINGLE = ("items", "additionalProperties", "additionalItems")
_LISTED = ("anyOf", "allOf", "oneOf", "prefixItems", "items")


def find_mistake(schema: str, mistake: Callable[[str], str]) -> str:
    """The path of the smallest part of a schema that alone has the error of the whole; "" for the
    whole. `mistake` returns the error of a schema's text, "" for none. A path looks like
    `properties.name.anyOf[0]`."""
    reason = mistake(schema)
    if not reason:
        return ""
    try:
        root = json.loads(schema)
    except (ValueError, RecursionError):
        return ""
    return _Search(root, reason, mistake).run()


class _Search:
    def __init__(self, root: Any, reason: str, mistake: Callable[[str], str]) -> None:
        self._root = root
        self._reason = reason
        self._mistake = mistake
        self._num_left = MAX_TRIES
        self._deadline = time.monotonic() + MAX_SECONDS
        self._definitions = {
            key: root[key]
            for key in ("$schema", "$id", "$defs", "definitions", "x-guidance")
            if isinstance(root, dict) and key in root
        }

    def run(self) -> str:
        part, path = self._root, ""
        while (found := self._descend(part)) is not None:
            step, part = found
            path += step if not path or step.startswith("[") else f".{step}"
        return path

    def _descend(self, part: Any) -> tuple[str, Any] | None:
        for step, child in _children(part):
            if not isinstance(child, dict):
                continue
            if self._num_left == 0 or time.monotonic() >= self._deadline:
                return None
            self._num_left -= 1
            if self._mistake(json.dumps(self._alone(step, child))) == self._reason:
                return step, child
        return None

    def _alone(self, step: str, child: dict[str, Any]) -> dict[str, Any]:
        """A part as a schema of its own. It gets the definitions that it may refer to, unless it is
        a definition itself."""
        if step.startswith(("$defs.", "definitions.")):
            return child
        return {**self._definitions, **child}


def _children(part: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(part, dict):
        return
    for key in _NAMED:
        if isinstance(named := part.get(key), dict):
            yield from ((f"{key}.{name}", child) for name, child in named.items())
    for key in _SINGLE:
        if isinstance(part.get(key), dict):
            yield key, part[key]
    for key in _LISTED:
        if isinstance(listed := part.get(key), list):
            yield from ((f"{key}[{index}]", child) for index, child in enumerate(listed))
