"""Byte-level BPE with tiktoken, built from the tokens and merges of a GGUF file."""

import re
from collections.abc import Callable, Iterator
from functools import cached_property

from runtime.models.gguf import GGUFFile
from runtime.tokenizers.bpe_ranks import NO_TOKEN, Ranks, build_ranks
from runtime.tokenizers.gguf.bpe_vocab import BpeVocab, read_bpe_vocab
from runtime.tokenizers.gguf.pretokenizer import find_pretokenizer
from runtime.tokenizers.least_tokens import LeastTokens
from runtime.tokenizers.special_tokens import SpecialTokens, clean_text

# tiktoken's regex engine panics on a million blanks in a row.
_MAX_PART = 400_000
_MAX_BACK = 10_000
_WORD_END = re.compile("[A-Za-z](?= )")


class BpeTokenizer:
    """A `Tokenizer` that gives llama.cpp's tokens at tiktoken's speed.

    One difference is intended: without `parse_special`, the text of a control token is never read
    as that token. llama.cpp does so if it is a whole word.
    """

    def __init__(self, vocab: BpeVocab, encode_text: Callable[[str], list[int]]) -> None:
        self.vocab_size = vocab.vocab_size
        self.max_model_len = vocab.max_model_len
        self.bos_token_id = vocab.bos_token_id
        self.eos_token_id = vocab.eos_token_id
        self.eog_token_ids = vocab.eog_token_ids
        self.fim_tokens = vocab.fim_tokens
        self.chat_template = vocab.chat_template
        self.tool_template = vocab.tool_template
        self.bos_token = vocab.token_text(vocab.bos_token_id)
        self.eos_token = vocab.token_text(vocab.eos_token_id)
        self.special_tokens = {"bos_token": self.bos_token, "eos_token": self.eos_token}
        self.control_tokens = vocab.control_texts
        self._prefix = vocab.prefix
        self._suffix = vocab.suffix
        self._bytes = vocab.token_bytes
        self._names = vocab.texts
        self._control = tuple(vocab.control)
        self._special = SpecialTokens({**vocab.user_defined, **vocab.control})
        self._user_defined = SpecialTokens(vocab.user_defined)
        self._encode_text = encode_text

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        special = self._special if parse_special else self._user_defined
        token_ids = list(self._prefix) if add_special else []
        for piece in special.split(clean_text(text)):
            if isinstance(piece, int):
                token_ids.append(piece)
            else:
                for part in split_long(piece):
                    token_ids += self._encode_text(part)
        if add_special:
            token_ids += self._suffix
        return token_ids

    def least_tokens(self, text: str) -> int:
        return self._least.count(text)

    @cached_property
    def _least(self) -> LeastTokens:
        named = (text.encode("utf-8", "replace") for text in self._control)
        return LeastTokens((*self._bytes, *named))

    def token_bytes(self, token_id: int) -> bytes:
        if token_id < 0:
            raise IndexError(token_id)
        return self._bytes[token_id]

    def token_name(self, token_id: int) -> str:
        return self._names[token_id]


def load_bpe_tokenizer(file: GGUFFile) -> BpeTokenizer | None:
    """The tokenizer of a GGUF file, or None if tiktoken would not give the same tokens."""
    if file.text("tokenizer.ggml.model") != "gpt2" or has_own_rules(file):
        return None
    rule = find_pretokenizer(file.text("tokenizer.ggml.pre"))
    vocab = read_bpe_vocab(file, rule) if rule is not None else None
    if rule is None or vocab is None:
        return None
    merges = file.strings("tokenizer.ggml.merges")
    ranks = build_ranks(vocab.ids, merges, vocab.ordinary() if rule.whole_words else ())
    return None if ranks is None else BpeTokenizer(vocab, text_encoder(rule.pattern, ranks))


def split_long(text: str) -> Iterator[str]:
    """The text in parts that are short enough for tiktoken's regex engine, cut at the end of a word
    if possible."""
    start = 0
    while len(text) - start > _MAX_PART:
        end = start + _MAX_PART
        word_ends = [found.end() for found in _WORD_END.finditer(text, end - _MAX_BACK, end)]
        cut = word_ends[-1] if word_ends else end
        yield text[start:cut]
        start = cut
    yield text[start:]


def text_encoder(pattern: str, ranks: Ranks) -> Callable[[str], list[int]]:
    """tiktoken's encoder of plain text, which returns the model's ids. Long texts must be cut by
    `split_long` first."""
    import tiktoken

    encoding = tiktoken.Encoding(
        "model", pat_str=pattern, mergeable_ranks=ranks.ranks, special_tokens={}
    )
    encode: Callable[[str], list[int]] = encoding.encode_ordinary
    token_ids = ranks.token_ids
    if token_ids is None:
        return shared_ids(encode, max(ranks.ranks.values(), default=-1) + 1)

    def encode_known(text: str) -> list[int]:
        # Like llama.cpp, leave out bytes that are no token of the model.
        found = (token_ids[rank] for rank in encode(text))
        return [token_id for token_id in found if token_id != NO_TOKEN]

    return encode_known


def shared_ids(encode: Callable[[str], list[int]], num_ids: int) -> Callable[[str], list[int]]:
    """The same encoder, whose equal ids are one object. Those of a long text would otherwise be
    millions of small objects, of which the interpreter keeps the memory."""
    known = list(range(num_ids))
    return lambda text: [known[token_id] for token_id in encode(text)]


def has_own_rules(file: GGUFFile) -> bool:
    """Whether llama.cpp strips blanks around special tokens; it knows such models by name."""
    name = file.text("general.name").lower()
    return any(part in name for part in ("phi-3", "phi3", "modern-bert"))
