"""The vocabulary of a byte-level BPE model file: its tokens and their roles.

The rules are those of llama.cpp (src/llama-vocab.cpp, release in llama-cpp-python 0.3.36). It
decides by the texts of tokens where the model file says nothing.
"""

from collections.abc import Mapping

from msgspec import Struct

from runtime.errors import ModelFileError
from runtime.models.gguf import GGUFFile
from runtime.tokenizers.bpe_ranks import bytes_of
from runtime.tokenizers.gguf.pretokenizer import PreTokenizer
from runtime.tokenizers.token_roles import FimTokens, TokenRoles

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6
# llama.cpp's default for bos and eos if a byte-level BPE file names none
_DEFAULT_TOKEN_ID = 11


class BpeVocab(Struct, frozen=True):
    """`control` and `user_defined` map texts to ids; control tokens have no bytes. `control_texts`
    are those of `Tokenizer.control_tokens`. `prefix` and `suffix` are what `add_special` puts
    around a text. `ids` maps the texts of all tokens, ordinary ones in GPT-2's spelling of bytes,
    to their ids.
    """

    vocab_size: int
    max_model_len: int
    chat_template: str | None
    tool_template: str | None
    texts: list[str]
    token_bytes: list[bytes]
    ids: dict[str, int]
    control: dict[str, int]
    user_defined: dict[str, int]
    control_texts: frozenset[str]
    bos_token_id: int | None
    eos_token_id: int | None
    eog_token_ids: frozenset[int]
    fim_tokens: FimTokens | None
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
    """The vocabulary, or None if a token is not in GPT-2's spelling of bytes.

    Raises ModelFileError for a file without tokens, or with the same token twice.
    """
    return _Builder(file, pretokenizer).build()


class _Builder:
    """Collects the tokens and their roles."""

    def __init__(self, file: GGUFFile, pretokenizer: PreTokenizer) -> None:
        self._file = file
        self._pretokenizer = pretokenizer
        self._texts = _texts(file)
        self._ids = {text: token_id for token_id, text in enumerate(self._texts)}
        if len(self._ids) != len(self._texts):
            raise ModelFileError(f"{file.path}: `tokenizer.ggml.tokens`: a token is there twice.")
        kinds = _kinds(file, len(self._texts))
        self._kinds = kinds
        self._roles = TokenRoles(
            self._ids,
            hidden=(i for i, kind in kinds.items() if kind in (_CONTROL, _UNKNOWN)),
            user_defined=(i for i, kind in kinds.items() if kind == _USER_DEFINED),
            named=self._named_id,
        )

    def build(self) -> BpeVocab | None:
        bos = self._special_id("bos_token_id", self._pretokenizer.has_bos)
        eos = self._special_id("eos_token_id", True)
        eog = self._roles.find_eog([] if eos is None else [eos])
        token_bytes = self._token_bytes()
        if token_bytes is None:
            return None
        file = self._file
        add_bos = file.flag("tokenizer.ggml.add_bos_token", self._pretokenizer.add_bos)
        add_eos = file.flag("tokenizer.ggml.add_eos_token")
        hidden = self._roles.hidden
        fim_tokens = self._roles.find_fim()
        return BpeVocab(
            vocab_size=len(self._texts),
            max_model_len=file.max_model_len,
            chat_template=file.text("tokenizer.chat_template") or None,
            tool_template=file.text("tokenizer.chat_template.tool_use") or None,
            texts=self._texts,
            token_bytes=token_bytes,
            ids=self._ids,
            control={self._texts[i]: i for i in hidden},
            user_defined={self._texts[i]: i for i in self._roles.user_defined - hidden},
            control_texts=self._roles.control_texts(),
            bos_token_id=bos,
            eos_token_id=eos,
            eog_token_ids=eog,
            fim_tokens=fim_tokens,
            prefix=(bos,) if add_bos and bos is not None else (),
            suffix=(eos,) if add_eos and eos is not None else (),
        )

    def _special_id(self, key: str, has_default: bool) -> int | None:
        token_id = self._named_id(key)
        if token_id is not None:
            return token_id
        return _DEFAULT_TOKEN_ID if has_default and len(self._texts) > _DEFAULT_TOKEN_ID else None

    def _named_id(self, key: str) -> int | None:
        token_id = self._file.number(f"tokenizer.ggml.{key}")
        return token_id if token_id is not None and 0 <= token_id < len(self._texts) else None

    def _token_bytes(self) -> list[bytes] | None:
        all_bytes = [bytes_of(text) for text in self._texts]
        for token_id, kind in self._kinds.items():
            if kind == _BYTE:
                return None
            if kind != _NORMAL:
                all_bytes[token_id] = b""
        for token_id in self._roles.user_defined:
            all_bytes[token_id] = self._texts[token_id].encode("utf-8", "surrogateescape")
        for token_id in self._roles.hidden:
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
