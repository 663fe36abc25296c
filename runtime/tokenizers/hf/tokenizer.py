"""The tokenizer of a checkpoint folder."""

from functools import cached_property
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from runtime.errors import ModelFileError
from runtime.models.hf_folder import ModelConfig, read_model_config
from runtime.tokenizers.hf.bpe import TiktokenEncoder, tiktoken_encoder
from runtime.tokenizers.hf.token_bytes import token_bytes
from runtime.tokenizers.hf.tokenizer_config import TokenizerConfig, read_tokenizer_config
from runtime.tokenizers.hf.tokenizer_file import TokenizerFile, read_tokenizer_file
from runtime.tokenizers.least_tokens import LeastTokens
from runtime.tokenizers.special_tokens import clean_text
from runtime.tokenizers.token_roles import FimTokens, TokenRoles


class Encoder(Protocol):
    """Clean text to ids, as `Tokenizer.encode` says."""

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]: ...


class _Vocab(Struct, frozen=True):
    bos_token_id: int | None
    eos_token_id: int | None
    eog_token_ids: frozenset[int]
    hidden: set[int]
    control_texts: frozenset[str]
    fim_tokens: FimTokens | None


class HFTokenizer:
    """A `Tokenizer` that gives the tokens of transformers' AutoTokenizer.

    `TokenRoles` decides which added tokens stand for no text and which end a generation, as for
    GGUF files, in addition to what the folder says itself. `vocab_size` is the model's; ids without
    a token stand for no text.
    """

    def __init__(self, folder: Path) -> None:
        """Raises ModelFileError for a folder without a usable tokenizer."""
        model = read_model_config(folder)
        config = read_tokenizer_config(folder)
        file = read_tokenizer_file(folder, config.added_tokens, model.vocab_size)
        vocab = _vocab(model, config, file)
        self.vocab_size = file.vocab_size
        self.max_model_len = model.max_model_len
        self.chat_template = config.chat_template
        self.tool_template = config.chat_templates.get("tool_use")
        self.special_tokens = config.special_tokens
        self.bos_token = config.special_tokens.get("bos_token", "")
        self.eos_token = config.special_tokens.get("eos_token", "")
        self.bos_token_id = vocab.bos_token_id
        self.eos_token_id = vocab.eos_token_id
        self.eog_token_ids = vocab.eog_token_ids
        self.fim_tokens = vocab.fim_tokens
        self.control_tokens = vocab.control_texts
        self._bytes = token_bytes(file, vocab.hidden)
        self._names = {token_id: file.added[token_id].content for token_id in file.added}
        self.encoder = _encoder(file, vocab.hidden)

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        return self.encoder.encode(
            clean_text(text), add_special=add_special, parse_special=parse_special
        )

    def least_tokens(self, text: str) -> int:
        return self._least.count(text) if isinstance(self.encoder, TiktokenEncoder) else 0

    @cached_property
    def _least(self) -> LeastTokens:
        names = (name.encode("utf-8", "replace") for name in self._names.values())
        return LeastTokens((*self._bytes, *names), composes=True)

    def token_bytes(self, token_id: int) -> bytes:
        if token_id < 0:
            raise IndexError(token_id)
        return self._bytes[token_id]

    def token_name(self, token_id: int) -> str:
        return self._names.get(token_id, "")


def _encoder(file: TokenizerFile, hidden: set[int]) -> Encoder:
    encoder = tiktoken_encoder(file, hidden)
    if encoder is not None:
        return encoder
    from runtime.tokenizers.hf.library import LibraryEncoder

    return LibraryEncoder(file, hidden)


def _vocab(model: ModelConfig, config: TokenizerConfig, file: TokenizerFile) -> _Vocab:
    named = config.special_tokens
    eos = file.find(named.get("eos_token"))
    ends = [*([] if eos is None else [eos]), *model.eos_token_ids]
    if any(token_id >= file.vocab_size for token_id in ends):
        raise ModelFileError(
            f"{file.path.parent}: an `eos_token_id` of {max(ends)} is outside the vocabulary of"
            f" {file.vocab_size} tokens."
        )
    roles = TokenRoles(
        {token.content: token_id for token_id, token in file.added.items()},
        hidden=(token_id for token_id, token in file.added.items() if token.special),
        user_defined=(token_id for token_id, token in file.added.items() if not token.special),
        named=lambda key: None,
    )
    eog_token_ids = roles.find_eog(ends)
    fim_tokens = roles.find_fim()
    return _Vocab(
        bos_token_id=file.find(named.get("bos_token")),
        eos_token_id=ends[0] if ends else None,
        eog_token_ids=eog_token_ids,
        hidden=roles.hidden,
        control_texts=roles.control_texts(),
        fim_tokens=fim_tokens,
    )
