"""What the engine has to know of a model's folder before the package loads it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from runtime.errors import ModelFileError


class BuiltLimits(Struct, frozen=True):
    """What a TensorRT engine was built for: tokens of a sequence, sequences, tokens of a step."""

    max_seq_len: int
    max_batch_size: int
    max_num_tokens: int


class Checkpoint(Struct, frozen=True):
    """A model's folder. `max_model_len` in tokens is 0 where the folder does not say.
    `eos_token_ids` are all that its configuration names. `built` is there for the older form, a
    folder of TensorRT engines."""

    folder: Path
    max_model_len: int
    eos_token_ids: frozenset[int]
    built: BuiltLimits | None = None


def read_checkpoint(model_path: str) -> Checkpoint:
    """Read `config.json` and `generation_config.json` of a model's folder.

    Raises ModelFileError for anything that is not such a folder.
    """
    folder = Path(model_path)
    if not folder.is_dir():
        raise ModelFileError(
            "TensorRT-LLM loads a model's folder in Hugging Face's format, which"
            f" {model_path or 'an empty name'} is not. Set model.name_or_path to such a folder, or"
            " engine.name to llama_cpp."
        )
    config = _read_object(folder / "config.json")
    if "build_config" in config and any(folder.glob("*.engine")):
        return _read_built(folder, config)
    generation = _read_object(folder / "generation_config.json", required=False)
    text_config = {**config, **_object(config.get("text_config"))}
    eos_token_ids = _token_ids(text_config) | _token_ids(generation)
    length = text_config.get("max_position_embeddings")
    max_model_len = length if isinstance(length, int) else 0
    return Checkpoint(folder, max_model_len, eos_token_ids)


def _read_built(folder: Path, config: Mapping[str, Any]) -> Checkpoint:
    build = _object(config["build_config"])
    try:
        built = BuiltLimits(
            int(build["max_seq_len"]), int(build["max_batch_size"]), int(build["max_num_tokens"])
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"{folder / 'config.json'}: build_config has no {error}, or no number there"
        ) from error
    return Checkpoint(folder, built.max_seq_len, frozenset(), built)


def _read_object(file: Path, *, required: bool = True) -> dict[str, Any]:
    if not required and not file.is_file():
        return {}
    try:
        return _object(json.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise ModelFileError(f"{file} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ModelFileError(f"{file} is not valid JSON: {error}") from error


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _token_ids(config: Mapping[str, Any]) -> frozenset[int]:
    """`eos_token_id` is a number in some folders and a list in others."""
    value = config.get("eos_token_id")
    values = value if isinstance(value, list) else [value]
    return frozenset(token for token in values if isinstance(token, int))
