"""Finds stop strings, also across the borders between pieces of text."""

from array import array

from runtime.errors import InvalidRequest


class StopChecker:
    """Passes text through until a stop string is complete.

    The stop string that ends first in the text wins; of several that end at the same character, the
    longest wins. How the text was cut into pieces makes no difference. Only text that may still
    become a stop string is held back. The cost is linear in the length of the text, whatever the
    stop strings are. With `include` the text ends behind the stop string, otherwise before it.
    """

    def __init__(self, stop: tuple[str, ...], *, include: bool = False) -> None:
        if not all(stop):
            raise InvalidRequest("`stop` must not contain an empty string.", param="stop")
        self.matched: str | None = None
        self._include = include
        self._prefixes = [_Prefix(text) for text in stop]
        self._first = frozenset(text[0] for text in stop)
        self._held = ""

    def push(self, text: str) -> str:
        """The text that is safe to send now; nothing more after a match."""
        if self.matched is not None:
            return ""
        if not self._held and self._first.isdisjoint(text):
            return text
        pending = self._held + text
        num_held = len(self._held)
        for position, character in enumerate(text, num_held + 1):
            complete = [p for p in self._prefixes if p.advance(character)]
            if complete:
                return self._stop_at(pending[:position], complete)
        return self._hold(pending)

    def flush(self) -> str:
        """The text still held back, at the end of the generation."""
        held, self._held = self._held, ""
        return held

    def _stop_at(self, text: str, complete: "list[_Prefix]") -> str:
        self.matched = max((p.text for p in complete), key=len)
        self._held = ""
        return text if self._include else text.removesuffix(self.matched)

    def _hold(self, pending: str) -> str:
        keep = len(pending) - max(p.length for p in self._prefixes)
        self._held = pending[keep:]
        return pending[:keep]


class _Prefix:
    """The longest prefix of one stop string that the text ends with (Knuth, Morris, Pratt).

    `_borders` has, for each prefix, the length of its longest proper prefix that is also its
    suffix. It grows with the prefixes that the text has had, so that a long stop string costs
    nothing until the text begins to be like it.
    """

    __slots__ = ("_borders", "length", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.length = 0
        self._borders = array("I", [0])

    def advance(self, character: str) -> bool:
        """Reads one more character. True if the stop string is complete."""
        length = self.length
        while length and self.text[length] != character:
            length = self._borders[length - 1]
        if self.text[length] == character:
            length += 1
        self.length = length
        if length > len(self._borders):
            self._add_border()
        return length == len(self.text)

    def _add_border(self) -> None:
        character = self.text[len(self._borders)]
        length = self._borders[-1]
        while length and character != self.text[length]:
            length = self._borders[length - 1]
        self._borders.append(length + (character == self.text[length]))
