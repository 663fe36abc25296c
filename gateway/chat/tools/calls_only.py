"""The parser of answers that must be a tool call."""

from gateway.chat.parsing.pieces import Content, Parser, Piece


class CallsOnly:
    """Drops content. If the answer can only be a call, content is the beginning of a call that was
    cut off."""

    def __init__(self, parser: Parser) -> None:
        self._parser = parser

    def feed(self, text: str) -> list[Piece]:
        return [piece for piece in self._parser.feed(text) if not isinstance(piece, Content)]

    def finish(self) -> list[Piece]:
        return [piece for piece in self._parser.finish() if not isinstance(piece, Content)]
