"""Log-probabilities in OpenAI's two forms.

A token is shown by its text. A token that is only a part of a character is shown as in OpenAI's
legacy API, `bytes:\\xe2\\x96`. A token without text, such as the end of the answer, is shown by its
name.
"""

import codecs
from collections.abc import Sequence

from gateway.api.openai.protocol.answers import (
    ChatLogprobs,
    CompletionLogprobs,
    TokenLogprob,
    TopLogprob,
)
from runtime.messages.request import TokenLogprobs
from runtime.tokenizers.tokenizer import Tokenizer

LOWEST = -9999.0
"""What OpenAI says for a token that is next to impossible; JSON has no infinity."""

_Utf8Decoder = codecs.getincrementaldecoder("utf-8")


class ChatLogprobsWriter:
    """The form of /v1/chat/completions. The `bytes` of all tokens, joined, are the text that was
    generated."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def write(
        self, token_ids: Sequence[int], logprobs: Sequence[TokenLogprobs | None]
    ) -> ChatLogprobs:
        """One entry for each token."""
        pairs = zip(token_ids, logprobs, strict=True)
        return ChatLogprobs([self._entry(token_id, entry) for token_id, entry in pairs])

    def _entry(self, token_id: int, entry: TokenLogprobs | None) -> TokenLogprob:
        assert entry is not None, "a chat echoes no prompt: this is a bug"
        own = self._top(token_id, entry.logprob)
        likeliest = [self._top(other, logprob) for other, logprob in entry.top]
        return TokenLogprob(own.token, own.logprob, own.bytes, likeliest)

    def _top(self, token_id: int, logprob: float) -> TopLogprob:
        data = self._tokenizer.token_bytes(token_id)
        shown = shown_token(self._tokenizer, token_id)
        return TopLogprob(shown, max(logprob, LOWEST), list(data) if data else None)


class CompletionLogprobsWriter:
    """The form of /v1/completions, with one writer for each choice: the offset of a token depends
    on the tokens before it alone, so a stream and a whole answer have the same offsets."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decode = _Utf8Decoder("replace").decode
        self._offset = 0

    def write(
        self, token_ids: Sequence[int], logprobs: Sequence[TokenLogprobs | None]
    ) -> CompletionLogprobs:
        """One entry for each token, following on those of the last call."""
        written = CompletionLogprobs([], [], [], [])
        for token_id, entry in zip(token_ids, logprobs, strict=True):
            shown = shown_token(self._tokenizer, token_id)
            written.tokens.append(shown)
            written.token_logprobs.append(None if entry is None else max(entry.logprob, LOWEST))
            written.top_logprobs.append(None if entry is None else self._top(shown, entry))
            written.text_offset.append(self._offset)
            self._offset += len(self._decode(self._tokenizer.token_bytes(token_id)))
        return written

    def _top(self, chosen: str, entry: TokenLogprobs) -> dict[str, float]:
        """The likeliest tokens, and the chosen one whether it is among them or not."""
        likeliest: dict[str, float] = {}
        for token_id, logprob in entry.top:
            shown = shown_token(self._tokenizer, token_id)
            likeliest.setdefault(shown, max(logprob, LOWEST))
        likeliest.setdefault(chosen, max(entry.logprob, LOWEST))
        return likeliest


def shown_token(tokenizer: Tokenizer, token_id: int) -> str:
    """The text that stands for a token."""
    data = tokenizer.token_bytes(token_id)
    if not data:
        return tokenizer.token_name(token_id)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
