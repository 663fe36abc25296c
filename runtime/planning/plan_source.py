"""Finds the model to plan for: a folder, a file, a name of the catalogue, one of the hub whose
files are here, or a well-known one."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct

from runtime.errors import ModelNotFound
from runtime.models.gguf import read_whole_gguf
from runtime.models.repositories.names import HubName, parse_name
from runtime.models.store import Model, ModelStore
from runtime.planning.config_shape import shape_of_config
from runtime.planning.gguf_shape import shape_of_gguf
from runtime.planning.known_shapes import KNOWN_CONFIGS
from runtime.planning.model_shape import ModelShape
from runtime.planning.precisions import PrecisionName
from runtime.planning.stored_format import read_object, stored_format


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
    if isinstance(parse_name(name_or_path), HubName) and (model := _of_hub(name_or_path, store)):
        return model
    known = KNOWN_CONFIGS.get(name_or_path.lower())
    if known is not None:
        return PlannedModel(shape_of_config(known, name_or_path.lower()))
    raise _unknown(name_or_path, catalogue)


def _of_hub(name: str, store: ModelStore) -> PlannedModel | None:
    model = store.find(name)
    if not model.is_present:
        return None
    return _from_folder(model.path) if model.is_folder else _from_gguf(model.path, name)


def _from_gguf(path: Path, name: str) -> PlannedModel:
    file = read_whole_gguf(path)
    num_bytes = sum(tensor.num_bytes for tensor in file.tensors)
    return PlannedModel(shape_of_gguf(file, name), StoredWeights(num_bytes, "gguf", None))


def _from_folder(folder: Path) -> PlannedModel:
    config = read_object(folder / "config.json")
    shape = shape_of_config(config, folder.resolve().name)
    num_bytes = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if not num_bytes:
        return PlannedModel(shape)
    return PlannedModel(shape, StoredWeights(num_bytes, *stored_format(folder, config)))


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
