"""For answers that have to be a call."""

from gateway.chat.parsing.pieces import Content, Parser, Piece


class CallsOnly:
    """Drops content: where nothing but a call can come, it is the beginning of one that was cut
    off."""

    def __init__(self, parser: Parser) -> None:
        self._parser = parser

    def feed(self, text: str) -> list[Piece]:
        return [piece for piece in self._parser.feed(text) if not isinstance(piece, Content)]

    def finish(self) -> list[Piece]:
        return [piece for piece in self._parser.finish() if not isinstance(piece, Content)]
