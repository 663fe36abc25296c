"""What a parser has found and its reader has not fetched yet: texts and calls, in order."""

from collections.abc import Callable

from gateway.chat.parsing.pieces import (
    CallArguments,
    CallStart,
    Content,
    Piece,
    Reasoning,
)


class ToldCalls:
    """Collects pieces. Calls are numbered as they begin; those after the first `max_calls`, None
    for no limit, are parsed like the others and not told. `new_id` makes the id of a call."""

    def __init__(self, new_id: Callable[[], str], max_calls: int | None) -> None:
        self._new_id = new_id
        self._max_calls = max_calls
        self._pieces: list[Piece] = []
        self.number = -1
        """The number of the call that began last; -1 before the first."""

    @property
    def has_begun(self) -> bool:
        """Whether a call has begun, told or not."""
        return self.number >= 0

    def content(self, text: str) -> None:
        """Add text that belongs to no call."""
        if text:
            self._pieces.append(Content(text))

    def reasoning(self, text: str) -> None:
        """Add text that precedes the answer."""
        if text:
            self._pieces.append(Reasoning(text))

    def start(self, name: str, *, is_bare: bool = False) -> None:
        """Begin the next call. `is_bare` says that it has no mark."""
        self.number += 1
        if self._is_told:
            self._pieces.append(CallStart(self.number, self._new_id(), name, is_bare))

    def arguments(self, text: str) -> None:
        """Add to the arguments of the call that began last."""
        if text and self._is_told:
            self._pieces.append(CallArguments(self.number, text))

    def take(self) -> list[Piece]:
        """The pieces since the last call of this method."""
        pieces, self._pieces = self._pieces, []
        return pieces

    @property
    def _is_told(self) -> bool:
        return self._max_calls is None or self.number < self._max_calls
