"""Ends answers that repeat their tool calls."""

from collections import Counter

from gateway.chat.parsing.pieces import CallArguments, CallLoop, CallStart, Parser, Piece

MAX_SAME_CALLS = 8
"""How often an answer may make the same call with the same arguments."""


class LoopGuard:
    """Passes on what a parser finds, until the same call with the same arguments comes too often.
    Then a CallLoop takes the place of that call, and nothing follows.

    A small model may repeat a call for ever. A call without any mark or separator before it is such
    a repetition when it comes for the second time; other calls may come `MAX_SAME_CALLS` times. A
    call that may still become a repetition is held back.
    """

    def __init__(self, parser: Parser) -> None:
        self._parser = parser
        self._num_made: Counter[tuple[str, str]] = Counter()
        self._name: str | None = None
        self._arguments = ""
        self._repeatable: list[str] = []
        self._held: list[Piece] = []
        self._is_over = False

    def feed(self, text: str) -> list[Piece]:
        return [] if self._is_over else self._checked(self._parser.feed(text))

    def finish(self) -> list[Piece]:
        return [] if self._is_over else self._checked(self._parser.finish()) + self._release()

    def _checked(self, pieces: list[Piece]) -> list[Piece]:
        passed: list[Piece] = []
        for piece in pieces:
            passed += self._check(piece)
            if self._is_over:
                break
        return passed

    def _check(self, piece: Piece) -> list[Piece]:
        match piece:
            case CallStart():
                before = self._release()
                self._begin(piece)
                self._held.append(piece)
                return before if self._repeatable else before + self._release()
            case CallArguments():
                self._arguments += piece.text
                self._held.append(piece)
                return self._compare()
            case _:
                return [*self._release(), piece]

    def _begin(self, start: CallStart) -> None:
        """Counts the call before this one, and finds the arguments that would repeat a call."""
        if self._name is not None:
            self._num_made[self._name, self._arguments] += 1
        self._name, self._arguments = start.name, ""
        limit = 1 if start.is_bare else MAX_SAME_CALLS
        self._repeatable = [
            arguments
            for (name, arguments), number in self._num_made.items()
            if name == start.name and number >= limit
        ]

    def _compare(self) -> list[Piece]:
        if self._arguments in self._repeatable:
            self._is_over = True
            return [CallLoop()]
        if any(arguments.startswith(self._arguments) for arguments in self._repeatable):
            return []
        return self._release()

    def _release(self) -> list[Piece]:
        held, self._held = self._held, []
        return held
