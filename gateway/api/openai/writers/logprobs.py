"""Log-probabilities in OpenAI's two forms.

A token is shown by its text. A token that is only a part of a character is shown as in OpenAI's
legacy API, `bytes:\\xe2\\x96`. A token without text, such as the end of the answer, is shown by its
name.
"""

import codecs
from collections.abc import Sequence
from functools import partial

from gateway.api.openai.protocol.answers import (
    ChatLogprobs,
    CompletionLogprobs,
    PromptLogprob,
    PromptLogprobs,
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
    generated. With `as_token_ids` a token is shown by its id."""

    def __init__(self, tokenizer: Tokenizer, *, as_token_ids: bool = False) -> None:
        self._tokenizer = tokenizer
        self._show = token_id_name if as_token_ids else partial(shown_token, tokenizer)

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
        return TopLogprob(self._show(token_id), max(logprob, LOWEST), list(data) if data else None)


class CompletionLogprobsWriter:
    """The form of /v1/completions, with one writer for each choice: the offset of a token depends
    on the tokens before it alone, so a stream and a whole answer have the same offsets.

    At each token are the `num_top` likeliest ones. With `as_token_ids` a token is shown by its id.
    `drops_space` is for an echoed prompt whose first word the tokenizer has put a space before.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        num_top: int = 5,
        *,
        as_token_ids: bool = False,
        drops_space: bool = False,
    ) -> None:
        self._tokenizer = tokenizer
        self._num_top = num_top
        self._as_token_ids = as_token_ids
        self._drops_space = drops_space
        self._decode = _Utf8Decoder("replace").decode
        self._offset = 0

    def write(
        self, token_ids: Sequence[int], logprobs: Sequence[TokenLogprobs | None]
    ) -> CompletionLogprobs:
        """One entry for each token, following on those of the last call."""
        written = CompletionLogprobs([], [], [], [])
        for token_id, entry in zip(token_ids, logprobs, strict=True):
            data = self._token_bytes(token_id)
            shown = self._shown(token_id, data)
            written.tokens.append(shown)
            written.token_logprobs.append(None if entry is None else max(entry.logprob, LOWEST))
            written.top_logprobs.append(None if entry is None else self._top(shown, entry))
            written.text_offset.append(self._offset)
            self._offset += len(self._decode(data))
        return written

    def _token_bytes(self, token_id: int) -> bytes:
        data = self._tokenizer.token_bytes(token_id)
        if data and self._drops_space:
            self._drops_space = False
            return data.removeprefix(b" ")
        return data

    def _shown(self, token_id: int, data: bytes) -> str:
        if self._as_token_ids:
            return token_id_name(token_id)
        is_control = not self._tokenizer.token_bytes(token_id)
        return self._tokenizer.token_name(token_id) if is_control else shown_bytes(data)

    def _top(self, chosen: str, entry: TokenLogprobs) -> dict[str, float]:
        """The likeliest tokens, and the chosen one whether it is among them or not."""
        likeliest: dict[str, float] = {}
        for token_id, logprob in entry.top[: self._num_top]:
            shown = self._shown(token_id, self._tokenizer.token_bytes(token_id))
            likeliest.setdefault(shown, max(logprob, LOWEST))
        likeliest.setdefault(chosen, max(entry.logprob, LOWEST))
        return likeliest


def prompt_logprobs(
    tokenizer: Tokenizer,
    token_ids: Sequence[int],
    entries: Sequence[TokenLogprobs | None],
    num_top: int,
) -> PromptLogprobs:
    """vLLM's form of the log-probabilities of a prompt, with the `num_top` likeliest tokens at each
    place."""

    def place(token_id: int, entry: TokenLogprobs | None) -> dict[str, PromptLogprob] | None:
        if entry is None:
            return None
        shown = partial(shown_token, tokenizer)
        own = PromptLogprob(max(entry.logprob, LOWEST), entry.rank, shown(token_id))
        likeliest = {str(token_id): own}
        for rank, (other, logprob) in enumerate(entry.top[:num_top], start=1):
            likeliest.setdefault(
                str(other), PromptLogprob(max(logprob, LOWEST), rank, shown(other))
            )
        return likeliest

    return [place(*pair) for pair in zip(token_ids, entries, strict=True)]


def token_id_name(token_id: int) -> str:
    """How a token is shown to clients that ask for token ids in place of texts."""
    return f"token_id:{token_id}"


def shown_token(tokenizer: Tokenizer, token_id: int) -> str:
    """The text that stands for a token."""
    data = tokenizer.token_bytes(token_id)
    return shown_bytes(data) if data else tokenizer.token_name(token_id)


def shown_bytes(data: bytes) -> str:
    """The text of a token's bytes, which may be a part of a character."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
