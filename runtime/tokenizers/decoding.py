"""Token ids back to the bytes of a text."""

from collections.abc import Sequence

from runtime.tokenizers.tokenizer import Tokenizer


def puts_space_first(tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer puts a space before the first word of a text, as SentencePiece does.
    That space is no part of the text."""
    first = tokenizer.encode("a", add_special=False, parse_special=False)
    return bool(first) and tokenizer.token_bytes(first[0]).startswith(b" ")


def text_pieces(tokenizer: Tokenizer, token_ids: Sequence[int]) -> list[bytes]:
    """The part of a text that each of its tokens stands for; b"" for control tokens. A space that
    the tokenizer has put before the first word is left out.

    Raises IndexError for an id outside the vocabulary.
    """
    pieces = [tokenizer.token_bytes(token_id) for token_id in token_ids]
    first = next((index for index, piece in enumerate(pieces) if piece), None)
    if first is not None and puts_space_first(tokenizer):
        pieces[first] = pieces[first].removeprefix(b" ")
    return pieces
