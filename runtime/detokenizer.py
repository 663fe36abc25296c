"""Token ids to text, piece by piece, without ever splitting a character."""

import codecs
from collections.abc import Callable, Collection, Sequence

from runtime.tokenizer import Tokenizer

_Utf8Decoder = codecs.getincrementaldecoder("utf-8")


class Detokenizer:
    """Bytes of an unfinished character wait for the next token.

    The pieces, joined, are the bytes of all tokens decoded at once; bytes that are not UTF-8 become
    U+FFFD. Control tokens of `shown_token_ids` are their names; all others are nothing.
    """

    def __init__(self, tokenizer: Tokenizer, shown_token_ids: Collection[int] = ()) -> None:
        self._token_bytes = _showing(tokenizer, shown_token_ids)
        self._decode = _Utf8Decoder("replace").decode

    def push(self, token_ids: Sequence[int]) -> str:
        """The text that these tokens complete."""
        return self._decode(b"".join(map(self._token_bytes, token_ids)))

    def flush(self) -> str:
        """What is left at the end: an unfinished character becomes U+FFFD."""
        return self._decode(b"", True)


def _showing(tokenizer: Tokenizer, shown_token_ids: Collection[int]) -> Callable[[int], bytes]:
    if not shown_token_ids:
        return tokenizer.token_bytes
    names = {token_id: spell(tokenizer, token_id) for token_id in shown_token_ids}

    def token_bytes(token_id: int) -> bytes:
        return names[token_id] if token_id in names else tokenizer.token_bytes(token_id)

    return token_bytes


def spell(tokenizer: Tokenizer, token_id: int) -> bytes:
    """The bytes of a token; of one that stands for no text, its name's."""
    return tokenizer.token_bytes(token_id) or tokenizer.token_name(token_id).encode()
