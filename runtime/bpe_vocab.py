"""The vocabulary of a byte-level BPE model file: which tokens there are and what each is for.

The rules are those of llama.cpp (src/llama-vocab.cpp, release in llama-cpp-python 0.3.36): model
files leave much unsaid, and it decides by the texts of tokens.
"""

from collections.abc import Mapping
from typing import NamedTuple

from msgspec import Struct

from runtime.bpe_ranks import bytes_of
from runtime.errors import ModelFileError
from runtime.gguf import GGUFFile
from runtime.pretokenizer import PreTokenizer

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6
# llama.cpp's default for bos and eos where a byte-level BPE file names none
_DEFAULT_TOKEN_ID = 11


class _Role(NamedTuple):
    """How to find a token: by metadata keys, the later the stronger, else by one of the texts."""

    keys: tuple[str, ...]
    texts: tuple[str, ...]


_EOT = _Role(
    ("eot_token_id",),
    (
        "<|eot_id|>",
        "<|im_end|>",
        "<|end|>",
        "<end_of_turn>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<EOT>",
        "_<EOT>",
        "[EOT]",
        "<｜end▁of▁sentence｜>",
        "<end_of_utterance>",
    ),
)
_EOM = _Role(("eom_token_id",), ("<|eom_id|>",))
_FIM_PREFIX = _Role(
    ("fim_pre_token_id", "prefix_token_id"),
    (
        "<|fim_prefix|>",
        "<fim-prefix>",
        "<fim_prefix>",
        "<｜fim▁begin｜>",
        "<PRE>",
        "▁<PRE>",
        "<|code_prefix|>",
        "<|prefix|>",
    ),
)
_FIM_SUFFIX = _Role(
    ("fim_suf_token_id", "suffix_token_id"),
    (
        "<|fim_suffix|>",
        "<fim-suffix>",
        "<fim_suffix>",
        "<｜fim▁hole｜>",
        "<SUF>",
        "▁<SUF>",
        "<|code_suffix|>",
        "<|suffix|>",
    ),
)
_FIM_MIDDLE = _Role(
    ("fim_mid_token_id", "middle_token_id"),
    (
        "<|fim_middle|>",
        "<fim-middle>",
        "<fim_middle>",
        "<｜fim▁end｜>",
        "<MID>",
        "▁<MID>",
        "<|code_middle|>",
        "<|middle|>",
    ),
)
_FIM_PAD = _Role(("fim_pad_token_id",), ("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"))
_FIM_REPO = _Role(
    ("fim_rep_token_id",), ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>")
)
_FIM_FILE = _Role(("fim_sep_token_id",), ("<|file_sep|>",))
# They end a generation even beside other tokens that do.
_EOG_TEXTS = (
    *_EOT.texts,
    *_EOM.texts,
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "</s>",
    "[EOS]",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "[e~[",
)
_ALWAYS_SHOWN = ("<|channel|>", "<|message|>", "<|start|>", "<|constrain|>")


class BpeVocab(Struct, frozen=True):
    """`control` and `user_defined` map texts to ids; control tokens have no bytes. `prefix` and
    `suffix` are what `add_special` puts around a text. `ids` maps the texts of all tokens, ordinary
    ones in GPT-2's spelling of bytes, to their ids.
    """

    vocab_size: int
    max_model_len: int
    chat_template: str | None
    texts: list[str]
    token_bytes: list[bytes]
    ids: dict[str, int]
    control: dict[str, int]
    user_defined: dict[str, int]
    bos_token_id: int | None
    eos_token_id: int | None
    eog_token_ids: frozenset[int]
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]

    def ordinary(self) -> list[str]:
        """The texts of all tokens that are neither control nor user-defined ones."""
        return [t for t in self.texts if t not in self.control and t not in self.user_defined]

    def token_text(self, token_id: int | None) -> str:
        """The text of a token as templates want it: "" for None."""
        if token_id is None:
            return ""
        shown = self.token_bytes[token_id].decode("utf-8", "replace")
        return shown or self.texts[token_id]


def read_bpe_vocab(file: GGUFFile, pretokenizer: PreTokenizer) -> BpeVocab | None:
    """The vocabulary, or None where a token is not in GPT-2's spelling of bytes.

    Raises ModelFileError for a file without tokens, or with the same token twice.
    """
    return _Builder(file, pretokenizer).build()


class _Builder:
    """Collects what each token is for, in the order in which llama.cpp changes its mind."""

    def __init__(self, file: GGUFFile, pretokenizer: PreTokenizer) -> None:
        self._file = file
        self._pretokenizer = pretokenizer
        self._texts = _texts(file)
        self._ids = {text: token_id for token_id, text in enumerate(self._texts)}
        if len(self._ids) != len(self._texts):
            raise ModelFileError(f"{file.path}: `tokenizer.ggml.tokens`: a token is there twice.")
        kinds = _kinds(file, len(self._texts))
        self._kinds = kinds
        self._hidden = {i for i, kind in kinds.items() if kind in (_CONTROL, _UNKNOWN)}
        self._user_defined = {i for i, kind in kinds.items() if kind == _USER_DEFINED}

    def build(self) -> BpeVocab | None:
        bos = self._special_id("bos_token_id", self._pretokenizer.has_bos)
        eos = self._special_id("eos_token_id", True)
        eog = self._find_eog(eos)
        token_bytes = self._token_bytes()
        if token_bytes is None:
            return None
        file = self._file
        add_bos = file.flag("tokenizer.ggml.add_bos_token", self._pretokenizer.add_bos)
        add_eos = file.flag("tokenizer.ggml.add_eos_token")
        return BpeVocab(
            vocab_size=len(self._texts),
            max_model_len=file.max_model_len,
            chat_template=file.text("tokenizer.chat_template") or None,
            texts=self._texts,
            token_bytes=token_bytes,
            ids=self._ids,
            control={self._texts[i]: i for i in self._hidden},
            user_defined={self._texts[i]: i for i in self._user_defined - self._hidden},
            bos_token_id=bos,
            eos_token_id=eos,
            eog_token_ids=eog,
            prefix=(bos,) if add_bos and bos is not None else (),
            suffix=(eos,) if add_eos and eos is not None else (),
        )

    def _special_id(self, key: str, has_default: bool) -> int | None:
        token_id = self._file.number(f"tokenizer.ggml.{key}")
        if token_id is not None and 0 <= token_id < len(self._texts):
            return token_id
        return _DEFAULT_TOKEN_ID if has_default and len(self._texts) > _DEFAULT_TOKEN_ID else None

    def _find_eog(self, eos: int | None) -> frozenset[int]:
        for role in (_FIM_PREFIX, _FIM_SUFFIX, _FIM_MIDDLE):
            self._find(role)
        eog = {eos, *map(self._find, (_EOT, _EOM, _FIM_PAD, _FIM_REPO, _FIM_FILE))}
        by_text = {self._ids[text] for text in _EOG_TEXTS if text in self._ids}
        self._hidden |= by_text
        self._show(*_ALWAYS_SHOWN)
        eog |= by_text
        self._drop_false_ends(eog)
        return frozenset(token_id for token_id in eog if token_id is not None)

    def _find(self, role: _Role) -> int | None:
        """The token of a role. One that only its text tells is made a control token."""
        for key in reversed(role.keys):
            token_id = self._file.number(f"tokenizer.ggml.{key}")
            if token_id is not None and 0 <= token_id < len(self._texts):
                return token_id
        found = min((self._ids[text] for text in role.texts if text in self._ids), default=None)
        if found is not None:
            self._hidden.add(found)
        return found

    def _drop_false_ends(self, eog: set[int | None]) -> None:
        """Tokens that look like an end and, beside certain others, are none."""
        texts = {self._texts[i] for i in eog if i is not None}
        calls = not texts.isdisjoint(("<|call|>", "<|calls|>"))
        if calls and "<|end|>" in texts and not texts.isdisjoint(("<|return|>", "<|flush|>")):
            eog.discard(self._ids["<|end|>"])
            self._show("<|end|>")
        if "</s>" in texts and not texts.isdisjoint(("<|tool_response>", "<|plamo:eos|>")):
            eog.discard(self._ids["</s>"])
            self._hidden.discard(self._ids["</s>"])
            self._user_defined.discard(self._ids["</s>"])

    def _show(self, *texts: str) -> None:
        for token_id in (self._ids[text] for text in texts if text in self._ids):
            self._hidden.discard(token_id)
            self._user_defined.add(token_id)

    def _token_bytes(self) -> list[bytes] | None:
        all_bytes = [bytes_of(text) for text in self._texts]
        for token_id, kind in self._kinds.items():
            if kind == _BYTE:
                return None
            if kind != _NORMAL:
                all_bytes[token_id] = b""
        for token_id in self._user_defined:
            all_bytes[token_id] = self._texts[token_id].encode("utf-8", "surrogateescape")
        for token_id in self._hidden:
            all_bytes[token_id] = b""
        known = [data for data in all_bytes if data is not None]
        return known if len(known) == len(all_bytes) else None


def _texts(file: GGUFFile) -> list[str]:
    texts = file.strings("tokenizer.ggml.tokens")
    if not texts:
        raise ModelFileError(f"{file.path}: `tokenizer.ggml.tokens`: there is no vocabulary.")
    return [text or f"[EMPTY_{token_id}]" for token_id, text in enumerate(texts)]


def _kinds(file: GGUFFile, count: int) -> Mapping[int, int]:
    """The kinds of all tokens that are not ordinary."""
    kinds = file.integers("tokenizer.ggml.token_type")
    if kinds is None:
        return {}
    if len(kinds) < count:
        raise ModelFileError(f"{file.path}: `tokenizer.ggml.token_type` is too short.")
    return {i: kind for i, kind in enumerate(kinds[:count]) if kind != _NORMAL}
