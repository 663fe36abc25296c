"""Chained parsers."""

from gateway.chat.parsing.pieces import Content, Parser, Piece, Reasoning


class Chain:
    """`second` parses the content that `first` finds. All other pieces bypass `second`, and may be
    emitted before text that `second` still holds back."""

    def __init__(self, first: Parser, second: Parser) -> None:
        self._first = first
        self._second = second

    def feed(self, text: str) -> list[Piece]:
        return self._pass_on(self._first.feed(text))

    def finish(self) -> list[Piece]:
        return self._pass_on(self._first.finish()) + self._second.finish()

    def _pass_on(self, pieces: list[Piece]) -> list[Piece]:
        passed: list[Piece] = []
        for piece in pieces:
            if isinstance(piece, Content):
                passed += self._second.feed(piece.text)
            else:
                passed.append(piece)
        return passed


class WithoutReasoning:
    """Drops the reasoning."""

    def __init__(self, parser: Parser) -> None:
        self._parser = parser

    def feed(self, text: str) -> list[Piece]:
        return _without_reasoning(self._parser.feed(text))

    def finish(self) -> list[Piece]:
        return _without_reasoning(self._parser.finish())


def _without_reasoning(pieces: list[Piece]) -> list[Piece]:
    return [piece for piece in pieces if not isinstance(piece, Reasoning)]
