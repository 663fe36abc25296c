"""Text to token ids and back: what a tokenizer is, and the one that fits a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from runtime.models.gguf import read_gguf
from runtime.tokenizers.gguf.bpe import load_bpe_tokenizer
from runtime.tokenizers.gguf.llama_vocab import LlamaVocabTokenizer
from runtime.tokenizers.hf.tokenizer import HFTokenizer
from runtime.tokenizers.special_tokens import SpecialTokens, clean_text
from runtime.tokenizers.token_roles import FimTokens

_CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_BYTE_TOKENIZER_MARKS = (
    *("<|im_start|>", "<|im_end|>"),
    *("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
)


class Tokenizer(Protocol):
    """Token ids are 0 to `vocab_size` - 1. All methods may be called from several threads.

    `max_model_len` is the model's context in tokens, 0 where the file does not say.
    `eog_token_ids` are all tokens that end a generation. `bos_token` and `eos_token` are the texts
    of these tokens, "" where there is none; `special_tokens` are the texts that chat templates may
    ask for, by names such as "bos_token". `fim_tokens` mark the parts of a prompt whose middle is
    to be filled in; None where the model was not trained for that. `tool_template` is the chat
    template for conversations with tools, where the model has one of its own for them.
    """

    @property
    def vocab_size(self) -> int: ...

    @property
    def max_model_len(self) -> int: ...

    @property
    def bos_token_id(self) -> int | None: ...

    @property
    def eos_token_id(self) -> int | None: ...

    @property
    def eog_token_ids(self) -> frozenset[int]: ...

    @property
    def chat_template(self) -> str | None: ...

    @property
    def tool_template(self) -> str | None: ...

    @property
    def bos_token(self) -> str: ...

    @property
    def eos_token(self) -> str: ...

    @property
    def fim_tokens(self) -> FimTokens | None: ...

    @property
    def special_tokens(self) -> Mapping[str, str]: ...

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """The ids of `text`. A lone surrogate counts as U+FFFD.

        `add_special` puts the tokens before and after that the model file asks for.
        `parse_special` reads the texts of control tokens as those tokens; without it they are
        plain text.
        """
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for: b"" for control tokens. They may be half a character.

        Raises IndexError for an id outside the vocabulary.
        """
        ...

    def token_name(self, token_id: int) -> str:
        """What a token is called in the vocabulary, such as "<|im_end|>": the way to show one that
        stands for no bytes. Ordinary tokens may be in a spelling of the vocabulary's own."""
        ...


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
    chat_template = _CHATML
    tool_template: str | None = None
    special_tokens: Mapping[str, str] = {"bos_token": bos_token, "eos_token": eos_token}

    def __init__(self) -> None:
        self._names = dict(enumerate((self.bos_token, self.eos_token, *_BYTE_TOKENIZER_MARKS), 256))
        self._special = SpecialTokens({text: token_id for token_id, text in self._names.items()})
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

    def token_bytes(self, token_id: int) -> bytes:
        return self._bytes[token_id]

    def token_name(self, token_id: int) -> str:
        return self._names.get(token_id, "")


def load_tokenizer(model_path: str | Path) -> Tokenizer:
    """The tokenizer of a GGUF file or a checkpoint folder; for "" the built-in `ByteTokenizer`.

    Byte-level BPE vocabularies that tiktoken reproduces exactly get tiktoken; all others llama.cpp
    for a file and the `tokenizers` library for a folder. Raises ModelFileError where there is no
    usable vocabulary, and MissingExtra where llama.cpp is needed and not installed.
    """
    if not str(model_path):
        return ByteTokenizer()
    if Path(model_path).is_dir():
        return HFTokenizer(Path(model_path))
    file = read_gguf(model_path)
    return load_bpe_tokenizer(file) or LlamaVocabTokenizer(file)
