"""llama.cpp's own tokenizer, for every vocabulary that tiktoken cannot reproduce."""

import re
import sys
import weakref
from collections.abc import Sequence
from itertools import chain

from runtime.errors import InvalidRequest, MissingExtra, ModelFileError
from runtime.llama_library.installed import PACKAGES, installed_families, open_library
from runtime.llama_library.library import LlamaLibrary
from runtime.llama_library.values import LoadedModel, ModelOptions
from runtime.models.gguf import GGUFFile
from runtime.tokenizers.gguf.bpe import has_own_rules
from runtime.tokenizers.gguf.pretokenizer import uses_std_regex
from runtime.tokenizers.least_tokens import LeastTokens
from runtime.tokenizers.special_tokens import clean_text
from runtime.tokenizers.token_roles import ALWAYS_SHOWN, FimTokens

_BLANK = "▁"
# libstdc++'s std::regex takes some 300 bytes of stack for each character of a match and kills the
# process at the end of the stack, which is 1 MiB in a thread on Windows and 8 MiB on Linux.
_MAX_RUN = 2000
_LONG_RUN = re.compile(rf"(?<!\S)\S{{{_MAX_RUN}}}\S+|(?<!\s)\s{{{_MAX_RUN}}}\s+")


class LlamaVocabTokenizer:
    """A model file opened by llama.cpp for its vocabulary alone; no weights are read."""

    def __init__(self, file: GGUFFile) -> None:
        """Raises MissingExtra without a llama.cpp library, ModelFileError for an unusable file."""
        _check(file)
        self._library, self._model = library, model = _load_vocabulary(file.path)
        weakref.finalize(self, library.free_model, model).atexit = False
        self.vocab_size = library.num_vocab(model)
        self.max_model_len = file.max_model_len
        bos, eos = library.bos_and_eos(model)
        self.bos_token_id, self.eos_token_id = self._token_or_none(bos), self._token_or_none(eos)
        self.bos_token = self._text(self.bos_token_id)
        self.eos_token = self._text(self.eos_token_id)
        self.special_tokens = {"bos_token": self.bos_token, "eos_token": self.eos_token}
        self.eog_token_ids = library.eog_token_ids(model)
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
        return self._library.tokenize(
            self._model, text.encode(), add_special=add_special, parse_special=parse_special
        )

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
        is_structural, model = self._library.is_structural, self._model
        control = {text for number, text in enumerate(texts) if is_structural(model, number)}
        return frozenset(filter(None, control | set(ALWAYS_SHOWN).intersection(texts)))

    def _fim_tokens(self) -> FimTokens | None:
        prefix, suffix, middle = map(self._token_or_none, self._library.fim_tokens(self._model))
        if prefix is None or suffix is None or middle is None:
            return None
        return FimTokens(prefix, suffix, middle)

    def _piece(self, token_id: int) -> bytes:
        if not 0 <= token_id < self.vocab_size:
            raise IndexError(token_id)
        return self._library.piece(self._model, token_id)

    def _token_or_none(self, token_id: int) -> int | None:
        return token_id if 0 <= token_id < self.vocab_size else None

    def _text(self, token_id: int | None) -> str:
        return "" if token_id is None else self._library.token_text(self._model, token_id)


def _load_vocabulary(path: str) -> tuple[LlamaLibrary, LoadedModel]:
    """The vocabulary in the first library that can read it. llama.cpp's own is asked first, because
    it knows the most vocabularies; on Windows only one library can be in a process, and the
    engine's is the fastest.

    Raises MissingExtra if none is installed, ModelFileError if none reads it, LibraryUnusable.
    """
    families = installed_families()
    if not families:
        package = PACKAGES["ik_llama.cpp"]
        raise MissingExtra(package.name, package.extra)
    for family in families[:1] if sys.platform == "win32" else families[::-1]:
        library = open_library(family)
        model = library.load_model(path, ModelOptions(vocab_only=True))
        if model is not None:
            return library, model
    raise ModelFileError(f"{path}: {' and '.join(families)} cannot read this file's vocabulary.")


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
