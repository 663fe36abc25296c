"""The tokens of a GGUF file and what each is for, as the file says it."""

from collections.abc import Mapping

from msgspec import Struct

from runtime.errors import ModelFileError
from runtime.models.gguf import GGUFFile

_UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED = 2, 3, 4, 5
# A longer token is no token; it bounds the work on each.
_MAX_TOKEN_CHARACTERS = 4096
_ROLES = ("bos", "eos", "eot", "eom", "unknown", "padding")


class Vocabulary(Struct, frozen=True):
    """`texts` are spelled as in the file. `prefix` and `suffix` are what encoding puts around."""

    texts: list[str]
    control: frozenset[int]
    user_defined: frozenset[int]
    unused: frozenset[int]
    roles: Mapping[str, int]
    prefix: int | None
    suffix: int | None

    def special_id(self, role: str) -> int | None:
        """The id of "bos", "eos", "eot", "eom", "unknown" or "padding"."""
        return self.roles.get(role)

    def ids(self) -> dict[str, int]:
        """Texts to ids, without the tokens that only fill up the embedding."""
        return {text: i for i, text in enumerate(self.texts) if i not in self.unused}


def read_vocabulary(file: GGUFFile) -> Vocabulary:
    """Raises ModelFileError, naming the field, for an invalid vocabulary."""
    texts = _texts(file)
    kinds = file.integers("tokenizer.ggml.token_type")
    if kinds is not None and len(kinds) != len(texts):
        raise ModelFileError(
            f"{file.path}: `tokenizer.ggml.token_type` has {len(kinds)} entries for "
            f"{len(texts)} tokens."
        )
    by_kind: dict[int, set[int]] = {}
    for token_id, kind in enumerate(kinds or ()):
        by_kind.setdefault(kind, set()).add(token_id)
    roles = {role: i for role in _ROLES if (i := _role(file, role, len(texts))) is not None}
    add_bos = file.flag("tokenizer.ggml.add_bos_token", _adds_bos(file))
    return Vocabulary(
        texts=texts,
        control=frozenset(by_kind.get(_CONTROL, set()) | by_kind.get(_UNKNOWN, set())),
        user_defined=frozenset(by_kind.get(_USER_DEFINED, ())),
        unused=frozenset(by_kind.get(_UNUSED, ())),
        roles=roles,
        prefix=roles.get("bos") if add_bos else None,
        suffix=roles.get("eos") if file.flag("tokenizer.ggml.add_eos_token") else None,
    )


def _texts(file: GGUFFile) -> list[str]:
    texts = file.strings("tokenizer.ggml.tokens")
    if not texts:
        raise ModelFileError(f"{file.path}: `tokenizer.ggml.tokens`: there is no vocabulary.")
    if len(set(texts)) != len(texts):
        raise ModelFileError(f"{file.path}: `tokenizer.ggml.tokens`: a token is there twice.")
    for index, text in enumerate(texts):
        if len(text) > _MAX_TOKEN_CHARACTERS:
            raise ModelFileError(
                f"{file.path}: `tokenizer.ggml.tokens[{index}]` is {len(text)} characters long."
            )
        if not text.isascii() and _has_surrogates(text):
            raise ModelFileError(f"{file.path}: `tokenizer.ggml.tokens[{index}]` is not UTF-8.")
    return texts


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _role(file: GGUFFile, role: str, count: int) -> int | None:
    key = f"tokenizer.ggml.{role}_token_id"
    token_id = file.number(key)
    if token_id is not None and not 0 <= token_id < count:
        raise ModelFileError(f"{file.path}: `{key}` is {token_id}; there are {count} tokens.")
    return token_id


def _adds_bos(file: GGUFFile) -> bool:
    """The default if the file has no such field (llama.cpp, src/llama-vocab.cpp)."""
    if file.text("tokenizer.ggml.model") == "llama":
        return True
    return file.text("tokenizer.ggml.pre") in ("llama-bpe", "llama3", "llama-v3", "tekken")
