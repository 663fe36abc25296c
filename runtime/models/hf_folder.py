"""What the small JSON files of a checkpoint folder say about the model. Nothing in them is trusted.

The fields, and the defaults for missing fields, are those of transformers' PretrainedConfig and
GenerationConfig; of `text_config`, where a model that also sees or hears keeps what is its
language model's, the same fields are read.
"""

import json
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from runtime.errors import ModelFileError

CONFIG_FILE = "config.json"
GENERATION_CONFIG_FILE = "generation_config.json"

_T = TypeVar("_T")
_TokenId = Annotated[int, Meta(ge=0, lt=1 << 31)]
_Count = Annotated[int, Meta(ge=0, lt=1 << 31)]
# Far above any real file.
_MAX_CONFIG_BYTES = 1 << 24
_POINTER = b"version https://git-lfs"
# Rotary embeddings whose `max_position_embeddings` is the length that the scaling leads to. With
# the others it is the length before scaling.
_ALREADY_SCALED = ("default", "llama3", "longrope", "su", "mrope", "proportional")


class ModelConfig(Struct, frozen=True, kw_only=True):
    """What a folder says about its model.

    `architecture` is the first of `architectures`, "" where there is none. `vocab_size` counts the
    model's outputs, padding included, and is 0 where the files do not say. `max_model_len` is the
    context in tokens after rope scaling, 0 where they do not say. `sliding_window` is in tokens,
    None for a model that sees everything. `eos_token_ids` are those of generation_config.json,
    else those of config.json.
    """

    architecture: str
    model_type: str
    vocab_size: int
    max_model_len: int
    sliding_window: int | None
    bos_token_id: int | None
    pad_token_id: int | None
    eos_token_ids: tuple[int, ...]


class _ConfigFile(Struct):
    architectures: list[str] | None = None
    model_type: str | None = None
    vocab_size: _Count | None = None
    max_position_embeddings: _Count | None = None
    n_positions: _Count | None = None
    max_seq_len: _Count | None = None
    seq_length: _Count | None = None
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = None
    sliding_window: _Count | None = None
    use_sliding_window: bool | None = None
    bos_token_id: _TokenId | None = None
    pad_token_id: int | None = None
    eos_token_id: _TokenId | list[_TokenId] | None = None
    text_config: "_ConfigFile | None" = None

    def first(self, get: Callable[["_ConfigFile"], _T | None]) -> _T | None:
        """A field of the language model's own section, else of the whole."""
        inner = get(self.text_config) if self.text_config is not None else None
        return inner if inner is not None else get(self)


class _GenerationConfigFile(Struct):
    bos_token_id: _TokenId | None = None
    pad_token_id: int | None = None
    eos_token_id: _TokenId | list[_TokenId] | None = None


class _RopeScaling(Struct):
    rope_type: str | None = None
    type: str | None = None
    factor: float | None = None
    original_max_position_embeddings: Annotated[int, Meta(gt=0, lt=1 << 31)] | None = None


def is_checkpoint_folder(path: str | Path) -> bool:
    """Whether this is a folder with a model's `config.json` in it."""
    return (Path(path) / CONFIG_FILE).is_file()


def read_model_config(folder: str | Path) -> ModelConfig:
    """Read config.json, which must be there, and generation_config.json, which need not.

    Raises ModelFileError, naming file and field, for files that cannot be read or say impossible
    things.
    """
    folder = Path(folder)
    path = folder / CONFIG_FILE
    config = read_fields(path, _ConfigFile)
    generation = _GenerationConfigFile()
    if (folder / GENERATION_CONFIG_FILE).exists():
        generation = read_fields(folder / GENERATION_CONFIG_FILE, _GenerationConfigFile)
    eos = generation.eos_token_id
    bos = generation.bos_token_id
    pad = generation.pad_token_id
    read = ModelConfig(
        architecture=(config.architectures or [""])[0],
        model_type=config.model_type or "",
        vocab_size=config.first(lambda part: part.vocab_size) or 0,
        max_model_len=_max_model_len(path, config),
        sliding_window=_sliding_window(config),
        bos_token_id=bos if bos is not None else config.first(lambda part: part.bos_token_id),
        pad_token_id=pad if pad is not None else config.first(lambda part: part.pad_token_id),
        eos_token_ids=_eos(config) if eos is None else _as_tuple(eos),
    )
    _check_eos(folder, read, from_generation=generation.eos_token_id is not None)
    return read


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """A whole file. Raises ModelFileError for one that cannot be read or is too large."""
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(data) > max_bytes:
        raise ModelFileError(f"{path}: is larger than {max_bytes >> 20} MiB; it is damaged.")
    if data.startswith(_POINTER):
        raise ModelFileError(
            f"{path}: is only a pointer of Git LFS. Fetch the file itself with: git lfs pull"
        )
    return data


def read_fields(path: Path, kind: type[_T], max_bytes: int = _MAX_CONFIG_BYTES) -> _T:
    """The fields of a JSON file that `kind` has; others are passed over.

    Read like Python's json module, because that writes these files: with NaN, and with integers
    of any size. Raises ModelFileError.
    """
    data = read_bytes(path, max_bytes)
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path}: is not valid JSON: {error}") from error
    return check_fields(path, document, kind)


def check_fields(path: Path, document: object, kind: type[_T]) -> _T:
    """A decoded JSON document as a Struct. Raises ModelFileError, naming file and field."""
    try:
        return msgspec.convert(document, kind, str_keys=True)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ModelFileError(f"{path}: {error}") from error


def _max_model_len(path: Path, config: _ConfigFile) -> int:
    """The context after rope scaling, as transformers computes it (modeling_rope_utils)."""
    length = config.first(_positions) or 0
    document = config.first(lambda part: part.rope_parameters or part.rope_scaling)
    if not document or any(isinstance(value, dict) for value in document.values()):
        # A section for each kind of layer: some reach further than others, and the length that
        # the file says is that of the whole.
        return length
    scaling = check_fields(path, document, _RopeScaling)
    kind = scaling.rope_type or scaling.type or "default"
    if kind in _ALREADY_SCALED or _is_gemma3(config) or scaling.factor is None:
        return length
    if not (isfinite(scaling.factor) and 1 <= scaling.factor <= 1 << 20):
        raise ModelFileError(f"{path}: `rope_scaling.factor` is {scaling.factor}, not 1 or more.")
    if kind == "yarn" and scaling.original_max_position_embeddings:
        length = scaling.original_max_position_embeddings
    return int(length * scaling.factor)


def _positions(part: _ConfigFile) -> int | None:
    named = (part.max_position_embeddings, part.n_positions, part.seq_length, part.max_seq_len)
    return next((length for length in named if length is not None), None)


def _is_gemma3(config: _ConfigFile) -> bool:
    """Its rope scaling concerns some layers only, and its length is the one after scaling."""
    return (config.first(lambda part: part.model_type) or "").startswith("gemma3")


def _sliding_window(config: _ConfigFile) -> int | None:
    if config.first(lambda part: part.use_sliding_window) is False:
        return None
    return config.first(lambda part: part.sliding_window) or None


def _eos(config: _ConfigFile) -> tuple[int, ...]:
    for part in (config.text_config, config):
        if part is not None and part.eos_token_id is not None:
            return _as_tuple(part.eos_token_id)
    return ()


def _as_tuple(token_ids: int | list[int]) -> tuple[int, ...]:
    return (token_ids,) if isinstance(token_ids, int) else tuple(dict.fromkeys(token_ids))


def _check_eos(folder: Path, config: ModelConfig, *, from_generation: bool) -> None:
    name = GENERATION_CONFIG_FILE if from_generation else CONFIG_FILE
    for token_id in config.eos_token_ids:
        if config.vocab_size and token_id >= config.vocab_size:
            raise ModelFileError(
                f"{folder / name}: `eos_token_id` {token_id} is outside the vocabulary of"
                f" {config.vocab_size} tokens."
            )
