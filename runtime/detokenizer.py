"""Token ids to text, piece by piece, without ever splitting a character."""

import codecs
from collections.abc import Sequence

from runtime.tokenizer import Tokenizer

_Utf8Decoder = codecs.getincrementaldecoder("utf-8")


class Detokenizer:
    """Bytes of an unfinished character wait for the next token.

    The pieces, joined, are the bytes of all tokens decoded at once; bytes that are not UTF-8 become
    U+FFFD.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._token_bytes = tokenizer.token_bytes
        self._decode = _Utf8Decoder("replace").decode

    def push(self, token_ids: Sequence[int]) -> str:
        """The text that these tokens complete."""
        return self._decode(b"".join(map(self._token_bytes, token_ids)))

    def flush(self) -> str:
        """What is left at the end: an unfinished character becomes U+FFFD."""
        return self._decode(b"", True)
