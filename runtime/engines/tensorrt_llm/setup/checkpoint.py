"""Finds out the kind of a model's folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from runtime.errors import ModelFileError
from runtime.models.hf_folder import read_fields


class BuiltLimits(Struct, frozen=True):
    """The limits that TensorRT engines were built for: tokens of a sequence, sequences of a batch,
    tokens of a step."""

    max_seq_len: int
    max_batch_size: int
    max_num_tokens: int


class Checkpoint(Struct, frozen=True):
    """A model's folder. `built` is None, except for a folder of TensorRT engines, the older
    kind."""

    folder: Path
    built: BuiltLimits | None = None


def read_checkpoint(model_path: str) -> Checkpoint:
    """Examines a model's folder. Raises ModelFileError if it is not a folder, and for TensorRT
    engines whose config.json lacks their limits."""
    folder = Path(model_path)
    if not folder.is_dir():
        raise ModelFileError(
            "TensorRT-LLM loads a model's folder in Hugging Face's format, which"
            f" {model_path or 'an empty name'} is not. Set model.name_or_path to such a folder, or"
            " engine.name to llama_cpp."
        )
    if not any(folder.glob("*.engine")):
        return Checkpoint(folder)
    return Checkpoint(folder, _read_built(folder / "config.json"))


def _read_built(file: Path) -> BuiltLimits:
    build = _build_config(file)
    names = BuiltLimits.__struct_fields__
    for name in names:
        if not isinstance(build.get(name), int):
            raise ModelFileError(f"{file}: build_config.{name} is missing or no whole number")
    return BuiltLimits(*(build[name] for name in names))


def _build_config(file: Path) -> Mapping[str, Any]:
    build = read_fields(file, dict[str, Any]).get("build_config")
    if not isinstance(build, dict):
        raise ModelFileError(f"{file} has no build_config, which a folder of engines needs")
    return build
