"""The channels of gpt-oss (its harmony format).

An answer is a sequence of messages: `<|channel|>analysis<|message|>…<|end|>`, then
`<|start|>assistant<|channel|>final<|message|>…`. Analysis is reasoning, a commentary for a function
is a call, everything else is for the reader.
"""

import re
from collections.abc import Callable, Mapping

from gateway.parsing.pieces import CallArguments, CallStart, Content, Piece, Reasoning
from gateway.parsing.tags import partial_length

MESSAGE = "<|message|>"
ENDS = ("<|end|>", "<|start|>", "<|channel|>")
"""What ends a message's text; the tokens that end an answer stand for no text."""

_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")
_RECIPIENT = re.compile(r"\bto=(?:functions\.)?([^\s<]+)")


class HarmonyParser:
    """Reads messages as they come. A header that never gets its message is dropped; text without
    one is for the reader. `opening` says which message the prompt has begun, if it has."""

    def __init__(self, new_call_id: Callable[[], str], opening: str = "possible") -> None:
        self._new_call_id = new_call_id
        self._held = ""
        self._num_calls = 0
        openings: Mapping[str, Callable[[str], Piece]] = {"inside": Reasoning, "over": Content}
        self._say = openings.get(opening)
        """What text is now; None inside a header."""

    def feed(self, text: str) -> list[Piece]:
        pieces: list[Piece] = []
        self._held += text
        while self._read_header(pieces) if self._say is None else self._read_text(pieces):
            pass
        return pieces

    def finish(self) -> list[Piece]:
        held, self._held = self._held, ""
        is_text = bool(held) and not held.startswith("<|")  # half of a control token is none
        return [self._say(held)] if is_text and self._say is not None else []

    def _read_header(self, pieces: list[Piece]) -> bool:
        header, found, rest = self._held.partition(MESSAGE)
        if found:
            self._held = rest
            self._begin(header, pieces)
            return True
        if not _may_be_header(self._held):
            self._say = Content
            return True
        return False

    def _begin(self, header: str, pieces: list[Piece]) -> None:
        """A message begins."""
        channel, recipient = _CHANNEL.search(header), _RECIPIENT.search(header)
        if recipient is not None:
            number, self._num_calls = self._num_calls, self._num_calls + 1
            pieces.append(CallStart(number, self._new_call_id(), recipient[1]))
            self._say = lambda text: CallArguments(number, text)
        elif channel is not None and channel[1] == "analysis":
            self._say = Reasoning
        else:
            self._say = Content

    def _read_text(self, pieces: list[Piece]) -> bool:
        assert self._say is not None, "no message has begun: this is a bug"
        places = [place for tag in ENDS if (place := self._held.find(tag)) >= 0]
        is_over = bool(places)
        kept = len(self._held) - max(partial_length(self._held, tag) for tag in ENDS)
        end = min(places) if is_over else kept
        if end:
            pieces.append(self._say(self._held[:end]))
        self._held = self._held[end:].removeprefix("<|end|>")
        if is_over:
            self._say = None
        return is_over


def _may_be_header(text: str) -> bool:
    """A header begins with a control token, or names a recipient."""
    text = text.lstrip()
    return not text or text.startswith(("<|", "to=")) or text in ("<", "t", "to")
