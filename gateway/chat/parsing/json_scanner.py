"""Finds where a JSON object ends, without waiting for all of it."""

import re

_OUTSIDE = re.compile(r'["{}\[\]]')
_INSIDE = re.compile(r'["\\]')


class JsonScanner:
    """Counts brackets outside strings. `depth` is how many brackets are open already: 0 before the
    value, 1 inside an object whose opening bracket was consumed elsewhere."""

    def __init__(self, depth: int = 0) -> None:
        self._depth = depth
        self._in_string = False
        self._is_escaped = False

    def feed(self, text: str) -> int | None:
        """The number of these characters that belong to the value, its last bracket included; None
        if all of them belong to it and the value continues."""
        position = 0
        if self._is_escaped and text:
            self._is_escaped = False
            position = 1
        while found := (_INSIDE if self._in_string else _OUTSIDE).search(text, position):
            position = found.end()
            match found[0]:
                case '"':
                    self._in_string = not self._in_string
                case "\\":
                    self._is_escaped = position == len(text)
                    position += 1
                case "{" | "[":
                    self._depth += 1
                case _:
                    self._depth -= 1
                    if self._depth <= 0:
                        return position
        return None
