"""Finds the model to plan for: a folder, a file, a name of the catalogue or a well-known one."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from runtime.errors import ModelFileError, ModelNotFound
from runtime.models.gguf import read_gguf
from runtime.models.store import Model, ModelStore
from runtime.planning.config_shape import shape_of_config
from runtime.planning.gguf_shape import shape_of_gguf
from runtime.planning.known_shapes import KNOWN_CONFIGS
from runtime.planning.model_shape import ModelShape
from runtime.planning.precisions import PrecisionName


class StoredWeights(Struct, frozen=True):
    """Weights on the disk. `format` is the name of their format; `precision` is None if
    TensorRT-LLM does not load it as it is, or it cannot be planned."""

    num_bytes: int
    format: str
    precision: PrecisionName | None


class PlannedModel(Struct, frozen=True):
    """A model's shape, and its weights if they are on disk."""

    shape: ModelShape
    stored: StoredWeights | None = None


_MODELOPT: Mapping[str, PrecisionName] = {
    "FP8": "fp8",
    "W8A16": "int8",
    "W4A16_AWQ": "int4_awq",
    "NVFP4": "nvfp4",
    "W4A8_MXFP4_FP8": "mxfp4",
}


def find_planned_model(name_or_path: str, store: ModelStore) -> PlannedModel:
    """Reads the model's shape; downloads nothing.

    Raises ModelNotFound, with the closest name, for an unknown name; ModelFileError for a damaged
    file; SetupError for an architecture that cannot be planned.
    """
    path = Path(name_or_path).expanduser()
    if name_or_path and path.is_dir():
        return _from_folder(path)
    if name_or_path and path.is_file():
        return _from_gguf(path, path.stem)
    catalogue = {model.name: model for model in store.models()}
    if name_or_path in catalogue and catalogue[name_or_path].is_present:
        return _from_gguf(catalogue[name_or_path].path, name_or_path)
    known = KNOWN_CONFIGS.get(name_or_path.lower())
    if known is not None:
        return PlannedModel(shape_of_config(known, name_or_path.lower()))
    raise _unknown(name_or_path, catalogue)


def _from_gguf(path: Path, name: str) -> PlannedModel:
    file = read_gguf(path)
    num_bytes = sum(tensor.num_bytes for tensor in file.tensors)
    return PlannedModel(shape_of_gguf(file, name), StoredWeights(num_bytes, "gguf", None))


def _from_folder(folder: Path) -> PlannedModel:
    config = _read_json(folder / "config.json")
    shape = shape_of_config(config, folder.resolve().name)
    num_bytes = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if not num_bytes:
        return PlannedModel(shape)
    return PlannedModel(shape, StoredWeights(num_bytes, *_stored_format(folder, config)))


def _stored_format(folder: Path, config: Mapping[str, Any]) -> tuple[str, PrecisionName | None]:
    """The name of the format and its precision, found as TensorRT-LLM does: from
    `hf_quant_config.json`, else from `quantization_config`. TensorRT-LLM reads the latter only for
    FP8 in blocks and MXFP4; it does not know AWQ and GPTQ of other tools."""
    file = folder / "hf_quant_config.json"
    if file.is_file():
        quantization = _read_json(file).get("quantization")
        algorithm = quantization.get("quant_algo") if isinstance(quantization, dict) else None
        if algorithm:
            return str(algorithm), _MODELOPT.get(str(algorithm))
    quantization = config.get("quantization_config")
    if not isinstance(quantization, dict):
        return "bf16", "bf16"
    method = str(quantization.get("quant_method"))
    return method, "mxfp4" if method == "mxfp4" else None


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except OSError as error:
        raise ModelFileError(f"{file} cannot be read: {error.strerror or error}") from error
    except msgspec.DecodeError as error:
        raise ModelFileError(f"{file} is not a JSON object: {error}") from error


def _unknown(name: str, catalogue: Mapping[str, Model]) -> ModelNotFound:
    known = sorted({*KNOWN_CONFIGS, *catalogue})
    close = _closest(name, known)
    hint = f" Did you mean {close}?" if close else ""
    return ModelNotFound(
        f"--model: there is no model, folder or file {name!r}.{hint} Known names: "
        f"{', '.join(known)}; or give a folder with a config.json or the path of a .gguf file"
    )


def _closest(name: str, known: Iterable[str]) -> str:
    plain = name.rpartition("/")[2].lower().removesuffix("-instruct")
    return next(iter(difflib.get_close_matches(plain, known, n=1)), "")
