"""llama.cpp's own tokenizer, for every vocabulary that tiktoken cannot reproduce."""

import ctypes
import os
import re
import weakref
from collections.abc import Sequence
from itertools import chain
from types import ModuleType
from typing import Any

from runtime.errors import InvalidRequest, MissingExtra, ModelFileError
from runtime.models.gguf import GGUFFile
from runtime.tokenizers.gguf.bpe import has_own_rules
from runtime.tokenizers.gguf.pretokenizer import uses_std_regex
from runtime.tokenizers.least_tokens import LeastTokens
from runtime.tokenizers.special_tokens import clean_text
from runtime.tokenizers.token_roles import ALWAYS_SHOWN, FimTokens

_PIECE_BYTES = 64
_BLANK = "▁"
# libstdc++'s std::regex takes some 300 bytes of stack for each character of a match and kills the
# process at the end of the stack, which is 1 MiB in a thread on Windows and 8 MiB on Linux.
_MAX_RUN = 2000
_LONG_RUN = re.compile(rf"(?<!\S)\S{{{_MAX_RUN}}}\S+|(?<!\s)\s{{{_MAX_RUN}}}\s+")


class LlamaVocabTokenizer:
    """A model file opened by llama.cpp for its vocabulary alone; no weights are read."""

    def __init__(self, file: GGUFFile) -> None:
        """Raises MissingExtra without llama-cpp-python, ModelFileError for an unusable file."""
        _check(file)
        self._llama = llama = load_llama_cpp()
        model = _load_model(llama, file.path)
        weakref.finalize(self, llama.llama_model_free, model).atexit = False
        self._vocab = vocab = llama.llama_model_get_vocab(model)
        self.vocab_size: int = llama.llama_vocab_n_tokens(vocab)
        self.max_model_len = file.max_model_len
        self.bos_token_id = self._token_or_none(llama.llama_vocab_bos(vocab))
        self.eos_token_id = self._token_or_none(llama.llama_vocab_eos(vocab))
        self.bos_token = self._text(self.bos_token_id)
        self.eos_token = self._text(self.eos_token_id)
        self.special_tokens = {"bos_token": self.bos_token, "eos_token": self.eos_token}
        is_eog = llama.llama_vocab_is_eog
        self.eog_token_ids = frozenset(i for i in range(self.vocab_size) if is_eog(vocab, i))
        self.fim_tokens = self._fim_tokens()
        self.control_tokens = self._control_texts(file.strings("tokenizer.ggml.tokens"))
        self.chat_template = file.text("tokenizer.chat_template") or None
        self.tool_template = file.text("tokenizer.chat_template.tool_use") or None
        self._longest_run = _LONG_RUN if _uses_std_regex(file) else None
        self._bytes: dict[int, bytes] = {}
        self._least = _least_tokens(file)

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """See `Tokenizer.encode`. Raises InvalidRequest for a run of characters or of blanks that
        is too long for llama.cpp's regular expressions."""
        text = clean_text(text)
        if self._longest_run is not None and (run := self._longest_run.search(text)):
            raise InvalidRequest(_too_long(run.group()), param=None)
        data = text.encode()
        capacity = len(data) + 8
        token_ids = (ctypes.c_int32 * capacity)()
        args = (self._vocab, data, len(data), token_ids, capacity, add_special, parse_special)
        count = self._llama.llama_tokenize(*args)
        if count < 0:
            # A vocabulary may need more tokens than bytes; llama.cpp says how many.
            token_ids = (ctypes.c_int32 * -count)()
            count = self._llama.llama_tokenize(*args[:3], token_ids, -count, *args[5:])
        assert count >= 0, "llama_tokenize refused the size it asked for"
        return list(token_ids[:count])

    def least_tokens(self, text: str) -> int:
        return 0 if self._least is None else self._least.count(text)

    def token_bytes(self, token_id: int) -> bytes:
        known = self._bytes.get(token_id)
        if known is None:
            known = self._bytes[token_id] = self._piece(token_id)
        return known

    def token_name(self, token_id: int) -> str:
        return self._text(token_id)

    def _control_texts(self, texts: Sequence[str]) -> frozenset[str]:
        """The texts of the tokens that structure a prompt, among those of all tokens."""
        structural = self._llama.LLAMA_TOKEN_ATTR_CONTROL | self._llama.LLAMA_TOKEN_ATTR_UNKNOWN
        attributes = (self._llama.llama_vocab_get_attr(self._vocab, i) for i in range(len(texts)))
        control = {
            text for text, found in zip(texts, attributes, strict=True) if found & structural
        }
        return frozenset(filter(None, control | set(ALWAYS_SHOWN).intersection(texts)))

    def _fim_tokens(self) -> FimTokens | None:
        llama = self._llama
        ask = (llama.llama_vocab_fim_pre, llama.llama_vocab_fim_suf, llama.llama_vocab_fim_mid)
        prefix, suffix, middle = (self._token_or_none(each(self._vocab)) for each in ask)
        if prefix is None or suffix is None or middle is None:
            return None
        return FimTokens(prefix, suffix, middle)

    def _piece(self, token_id: int) -> bytes:
        if not 0 <= token_id < self.vocab_size:
            raise IndexError(token_id)
        size = _PIECE_BYTES
        while True:
            piece = ctypes.create_string_buffer(size)
            args = (self._vocab, token_id, piece, size, 0, False)
            count: int = self._llama.llama_token_to_piece(*args)
            if count >= 0:
                return piece.raw[:count]
            size = -count

    def _token_or_none(self, token_id: int) -> int | None:
        return token_id if 0 <= token_id < self.vocab_size else None

    def _text(self, token_id: int | None) -> str:
        if token_id is None:
            return ""
        text: bytes = self._llama.llama_vocab_get_text(self._vocab, token_id)
        return text.decode("utf-8", "replace")


def load_llama_cpp() -> ModuleType:
    """The `llama_cpp` module, with llama.cpp's log turned off. Raises MissingExtra without it."""
    try:
        import llama_cpp
    except ImportError as error:
        raise MissingExtra("llama-cpp-python", "cpu") from error
    global _ignore_log
    if _ignore_log is None:
        _ignore_log = llama_cpp.llama_log_callback(_ignore)
        llama_cpp.llama_log_set(_ignore_log, ctypes.c_void_p())
        llama_cpp.llama_backend_init()
    module: ModuleType = llama_cpp
    return module


# llama.cpp keeps a bare pointer to the callback: it must live as long as the process.
_ignore_log: Any = None


def _ignore(level: int, text: bytes, user_data: object) -> None:
    """Drops a line of llama.cpp's log; failures are raised as our own errors."""


def _load_model(llama: ModuleType, path: str) -> Any:
    params = llama.llama_model_default_params()
    params.vocab_only = True
    model = llama.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise ModelFileError(f"{path}: llama.cpp cannot read the vocabulary of this file.")
    return model


def _check(file: GGUFFile) -> None:
    """Refuse a file that would make llama.cpp abort the whole process."""
    kind = file.text("tokenizer.ggml.model")
    tokens = file.strings("tokenizer.ggml.tokens")
    if not tokens or kind in ("none", "no_vocab"):
        raise ModelFileError(f"{file.path}: `tokenizer.ggml.tokens`: there is no vocabulary.")
    if len(set(tokens)) != len(tokens):
        raise ModelFileError(f"{file.path}: `tokenizer.ggml.tokens`: a token is there twice.")
    if kind in ("llama", "t5") and not {f"<0x{byte:02X}>" for byte in range(256)} <= set(tokens):
        raise ModelFileError(f"{file.path}: `tokenizer.ggml.tokens`: byte tokens are missing.")


def _least_tokens(file: GGUFFile) -> LeastTokens | None:
    """For SentencePiece's BPE, whose tokens stand for all bytes of a text. None for other
    vocabularies, and where llama.cpp strips blanks around special tokens."""
    if file.text("tokenizer.ggml.model") != "llama" or has_own_rules(file):
        return None
    texts = file.strings("tokenizer.ggml.tokens")
    pieces = (text.replace(_BLANK, " ").encode("utf-8", "replace") for text in texts)
    return LeastTokens(chain(pieces, (bytes((byte,)) for byte in range(256))))


def _uses_std_regex(file: GGUFFile) -> bool:
    kind, rule = file.text("tokenizer.ggml.model"), file.text("tokenizer.ggml.pre")
    return kind in ("whitespace", "hybriddna") or (kind == "gpt2" and uses_std_regex(rule))


def _too_long(run: str) -> str:
    what = "blanks" if run.isspace() else "characters without a blank between them"
    return f"The text has {len(run)} {what}; the tokenizer of this model can take {_MAX_RUN}."
