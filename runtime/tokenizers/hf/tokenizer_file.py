"""Reads and checks tokenizer.json, and applies the added tokens of tokenizer_config.json."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from runtime.errors import ModelFileError
from runtime.models.hf_folder import CONFIG_FILE, check_fields, read_bytes
from runtime.tokenizers.hf.tokenizer_config import TOKENIZER_CONFIG_FILE, AddedToken

TOKENIZER_FILE = "tokenizer.json"
_MAX_TOKENIZER_BYTES = 1 << 28
# Far above any real vocabulary; bounds the tables that are as long as the highest id.
_MAX_VOCAB = 1 << 22

_TokenId = Annotated[int, Meta(ge=0, lt=_MAX_VOCAB)]
Step = dict[str, Any]
"""A normalizer, pre-tokenizer, post-processor or decoder as the file has it."""


class _AddedToken(AddedToken, frozen=True, kw_only=True):
    id: _TokenId


class Model(Struct, frozen=True):
    """The `model` of tokenizer.json. `merges` are pairs; their texts may be joined by a blank."""

    type: str | None = None
    vocab: dict[str, _TokenId] | list[tuple[str, float]] = {}
    merges: list[str | tuple[str, str]] = []
    dropout: float | None = None
    unk_token: str | None = None
    continuing_subword_prefix: str | None = None
    end_of_word_suffix: str | None = None
    byte_fallback: bool | None = None
    ignore_merges: bool | None = None

    def ids(self) -> dict[str, int]:
        """The ids of all ordinary tokens."""
        if isinstance(self.vocab, dict):
            return self.vocab
        return {text: token_id for token_id, (text, _) in enumerate(self.vocab)}


class _Document(Struct, frozen=True):
    model: Model
    added_tokens: list[_AddedToken] = []
    normalizer: Step | None = None
    pre_tokenizer: Step | None = None
    post_processor: Step | None = None
    decoder: Step | None = None


class TokenizerFile(Struct, frozen=True, kw_only=True):
    """tokenizer.json. `ids` are those of ordinary tokens; `added` has the added tokens by id.

    `vocab_size` is that of the model, if it is known, and all ids are below it. `document` is the
    whole file with these added tokens, for the `tokenizers` library.
    """

    path: Path
    vocab_size: int
    model: Model
    ids: dict[str, int]
    added: dict[int, AddedToken]
    normalizer: Step | None
    pre_tokenizer: Step | None
    post_processor: Step | None
    decoder: Step | None
    document: Step

    def find(self, text: str | None) -> int | None:
        """The id of a token by its text; added tokens come first."""
        if text is None:
            return None
        found = (token_id for token_id, token in self.added.items() if token.content == text)
        return next(found, self.ids.get(text))


def read_tokenizer_file(
    folder: Path, added_tokens: dict[int, AddedToken], vocab_size: int
) -> TokenizerFile:
    """Reads tokenizer.json. `added_tokens` overrides the file's own added tokens, as in
    transformers.

    `vocab_size` is that of config.json, 0 if it has none. Added tokens beyond it are left out: the
    model has no embedding for them, so their texts are plain text. Raises ModelFileError, naming
    file and field.
    """
    path = folder / TOKENIZER_FILE
    if not path.exists():
        raise ModelFileError(
            f"{path} is missing. Write it with transformers:"
            " AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        )
    document = _decode(path)
    file = check_fields(path, document, _Document)
    ids = file.model.ids()
    _check_ids(path, ids, vocab_size)
    added = _merge(folder, file.added_tokens, added_tokens)
    if vocab_size:
        added = {token_id: token for token_id, token in added.items() if token_id < vocab_size}
    document["added_tokens"] = [
        {"id": token_id, **msgspec.to_builtins(token)} for token_id, token in added.items()
    ]
    return TokenizerFile(
        path=path,
        vocab_size=vocab_size or 1 + max([*ids.values(), *added]),
        model=file.model,
        ids=ids,
        added=added,
        normalizer=file.normalizer,
        pre_tokenizer=file.pre_tokenizer,
        post_processor=file.post_processor,
        decoder=file.decoder,
        document=document | {"truncation": None, "padding": None},
    )


def _decode(path: Path) -> Step:
    data = read_bytes(path, _MAX_TOKENIZER_BYTES)
    try:
        return msgspec.json.decode(data, type=Step)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelFileError(f"{path}: {error}") from error


def _check_ids(path: Path, ids: dict[str, int], vocab_size: int) -> None:
    if not ids:
        raise ModelFileError(f"{path}: `model.vocab`: there is no vocabulary.")
    if len(set(ids.values())) != len(ids):
        raise ModelFileError(f"{path}: `model.vocab`: two tokens have the same id.")
    highest = max(ids.values())
    if vocab_size and highest >= vocab_size:
        raise ModelFileError(
            f"{path}: `model.vocab` has the id {highest}, but `vocab_size` in {CONFIG_FILE} is"
            f" {vocab_size}: the files do not belong together."
        )


def _merge(
    folder: Path, own: list[_AddedToken], configured: dict[int, AddedToken]
) -> dict[int, AddedToken]:
    """Added tokens by id, in the order of ids."""
    added = {token.id: _bare(token) for token in own}
    if len(added) != len(own):
        raise ModelFileError(f"{folder / TOKENIZER_FILE}: `added_tokens`: an id is there twice.")
    for token_id, token in configured.items():
        if token_id >= _MAX_VOCAB or added.get(token_id, token).content != token.content:
            raise ModelFileError(
                f"{folder / TOKENIZER_CONFIG_FILE}: `added_tokens_decoder`: the token {token_id} is"
                f" not the one in {TOKENIZER_FILE}."
            )
        added[token_id] = token
    texts = [token.content for token in added.values()]
    if len(set(texts)) != len(texts):
        raise ModelFileError(f"{folder / TOKENIZER_FILE}: `added_tokens`: a token is there twice.")
    return dict(sorted(added.items()))


def _bare(token: _AddedToken) -> AddedToken:
    values = {name: getattr(token, name) for name in AddedToken.__struct_fields__}
    return AddedToken(**values)
