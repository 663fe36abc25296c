"""A tokenizer whose tokens are bytes, for the scripted engine."""

from collections.abc import Mapping
from functools import cached_property

from runtime.tokenizers.chatml import CHATML, CHATML_TOKENS
from runtime.tokenizers.least_tokens import LeastTokens
from runtime.tokenizers.special_tokens import SpecialTokens, clean_text
from runtime.tokenizers.token_roles import FimTokens

_BYTE_TOKENIZER_MARKS = (
    *CHATML_TOKENS,
    *("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
)


class ByteTokenizer:
    """One token per byte of UTF-8, and seven control tokens. Needs no file."""

    bos_token = "<|bos|>"
    eos_token = "<|eos|>"
    bos_token_id = 256
    eos_token_id = 257
    im_start_token_id = 258
    im_end_token_id = 259
    fim_tokens = FimTokens(prefix=260, suffix=261, middle=262)
    vocab_size = 263
    max_model_len = 0
    eog_token_ids = frozenset({eos_token_id, im_end_token_id})
    chat_template = CHATML
    tool_template: str | None = None
    special_tokens: Mapping[str, str] = {"bos_token": bos_token, "eos_token": eos_token}

    def __init__(self) -> None:
        self._names = dict(enumerate((self.bos_token, self.eos_token, *_BYTE_TOKENIZER_MARKS), 256))
        self._special = SpecialTokens({text: token_id for token_id, text in self._names.items()})
        self.control_tokens = frozenset(self._names.values())
        self._bytes = (*(bytes((byte,)) for byte in range(256)), *(b"" for _ in self._names))

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        text = clean_text(text)
        token_ids = [self.bos_token_id] if add_special else []
        for piece in self._special.split(text) if parse_special else (text,):
            if isinstance(piece, int):
                token_ids.append(piece)
            else:
                token_ids.extend(piece.encode())
        return token_ids

    def least_tokens(self, text: str) -> int:
        return self._least.count(text)

    @cached_property
    def _least(self) -> LeastTokens:
        return LeastTokens((*self._bytes, *(name.encode() for name in self._names.values())))

    def token_bytes(self, token_id: int) -> bytes:
        return self._bytes[token_id]

    def token_name(self, token_id: int) -> str:
        return self._names.get(token_id, "")
