"""Converts token ids to text, piece by piece, without splitting a character."""

import codecs
from collections.abc import Mapping, Sequence

from runtime.tokenizers.tokenizer import Tokenizer

_Utf8Decoder = codecs.getincrementaldecoder("utf-8")


class Detokenizer:
    """Converts tokens to text. Bytes of an unfinished character wait for the next token.

    The pieces, joined, are the bytes of all tokens decoded at once; bytes that are not UTF-8 become
    U+FFFD. If the tokens end within a character, its bytes have no text. Tokens of
    `shown_token_ids` that stand for no bytes are shown by their names.
    """

    def __init__(self, tokenizer: Tokenizer, shown_token_ids: Sequence[int] = ()) -> None:
        self._token_bytes = tokenizer.token_bytes
        if shown_token_ids:
            names = {token_id: tokenizer.token_name(token_id) for token_id in shown_token_ids}
            self._token_bytes = _Named(tokenizer, names).token_bytes
        self._decode = _Utf8Decoder("replace").decode

    def push(self, token_ids: Sequence[int]) -> str:
        """The text that these tokens complete."""
        return self._decode(b"".join(map(self._token_bytes, token_ids)))


class _Named:
    """A tokenizer that shows some of its hidden tokens."""

    def __init__(self, tokenizer: Tokenizer, names: Mapping[int, str]) -> None:
        self._tokenizer = tokenizer
        self._names = {token_id: name.encode() for token_id, name in names.items()}

    def token_bytes(self, token_id: int) -> bytes:
        return self._tokenizer.token_bytes(token_id) or self._names.get(token_id, b"")


def spell(tokenizer: Tokenizer, token_id: int) -> bytes:
    """The bytes of a token, or of its name if it stands for no text."""
    return tokenizer.token_bytes(token_id) or tokenizer.token_name(token_id).encode()
