"""Reasoning between two tags at the beginning of an answer."""

from enum import Enum, auto

from gateway.chat.parsing.pieces import Content, Piece, Reasoning


class _Phase(Enum):
    BEFORE = auto()
    """Blanks, and text that may be the beginning of a tag."""
    INSIDE = auto()
    AFTER = auto()
    """After the block; line breaks directly after it are not part of the answer."""
    CONTENT = auto()


class TagParser:
    """At most one block, at the very beginning. `starts_inside` means that the prompt has opened
    it.

    An end tag at the beginning of the answer closes an empty block. Blanks around the reasoning and
    line breaks after the block are dropped. Later tags are plain text: an answer may mention them.
    """

    def __init__(self, start: str, end: str, *, starts_inside: bool = False) -> None:
        self._start = start
        self._end = end
        self._held = ""
        self._has_thought = False
        self._phase = _Phase.INSIDE if starts_inside else _Phase.BEFORE

    def feed(self, text: str) -> list[Piece]:
        pieces: list[Piece] = []
        self._held += text
        while self._advance(pieces):
            pass
        return pieces

    def finish(self) -> list[Piece]:
        held, self._held = self._held, ""
        if self._phase is _Phase.INSIDE:
            held = held.rstrip() if self._has_thought else held.strip()
            return [Reasoning(held)] if held else []
        return [Content(held)] if held else []

    def _advance(self, pieces: list[Piece]) -> bool:
        """Parses the held text. True if the phase has changed, so that there is more to parse."""
        match self._phase:
            case _Phase.BEFORE:
                return self._open()
            case _Phase.INSIDE:
                return self._think(pieces)
            case _Phase.AFTER:
                self._held = self._held.lstrip("\r\n")
                return bool(self._held) and self._enter(_Phase.CONTENT, 0)
            case _Phase.CONTENT:
                if self._held:
                    pieces.append(Content(self._held))
                self._held = ""
                return False

    def _open(self) -> bool:
        text = self._held.lstrip()
        num_blanks = len(self._held) - len(text)
        for tag, phase in ((self._start, _Phase.INSIDE), (self._end, _Phase.AFTER)):
            if text.startswith(tag):
                return self._enter(phase, num_blanks + len(tag))
        may_be_tag = self._start.startswith(text) or self._end.startswith(text)
        return not may_be_tag and self._enter(_Phase.CONTENT, 0)

    def _think(self, pieces: list[Piece]) -> bool:
        place = self._held.find(self._end)
        is_over = place >= 0
        thought = self._held[:place] if is_over else self._held
        if not self._has_thought:
            thought = thought.lstrip()
        kept = thought.rstrip() if is_over else thought[: _safe_length(thought, self._end)]
        if kept:
            self._has_thought = True
            pieces.append(Reasoning(kept))
        if is_over:
            return self._enter(_Phase.AFTER, place + len(self._end))
        self._held = thought[len(kept) :]
        return False

    def _enter(self, phase: _Phase, end: int) -> bool:
        self._phase = phase
        self._held = self._held[end:]
        return True


def _safe_length(text: str, tag: str) -> int:
    """How many characters of the reasoning can be emitted: not a partial tag, nor blanks before
    it."""
    return len(text[: len(text) - partial_length(text, tag)].rstrip())


def partial_length(text: str, tag: str) -> int:
    """How many characters at the end of `text` may be the beginning of `tag`."""
    longest = min(len(text), len(tag) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(tag[:size])), 0)
