"""The models on this machine's disk: in the model folder and in the hub's cache."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from msgspec import Struct

from runtime.errors import ModelNotFound, SetupError
from runtime.models.gguf import part_names
from runtime.models.hf_folder import is_checkpoint_folder
from runtime.models.integrity import marks
from runtime.models.repositories.cache import CachedModel
from runtime.models.repositories.listing import is_model, quantisation_of
from runtime.models.repositories.names import HubName, parse_name
from runtime.models.repositories.removal import Removal, plan_removal, remove
from runtime.models.store import Model, ModelStore

Place = Literal["catalogue", "hub", "folder"]


class StoredModel(Struct, frozen=True, kw_only=True):
    """A whole model on the disk, under a name that `lockgate serve` takes. `size` is in bytes.
    `last_used` is a time as of `time.time()`, as far as the file system notes it."""

    name: str
    place: Place
    path: str
    size: int
    quantisation: str
    last_used: float
    is_folder: bool


def stored_models(store: ModelStore) -> list[StoredModel]:
    """All models on the disk, the last used first."""
    found = [*_of_catalogue(store), *_of_hub(store), *_of_folder(store)]
    return sorted(found, key=lambda model: -model.last_used)


def removal_of(store: ModelStore, name: str) -> Removal:
    """What goes if the model is removed. Raises ModelNotFound if it is not there, SetupError for
    what lies neither in the model folder nor in the hub's cache."""
    model = store.find(name)
    if model.entry is not None:
        return _of_known(store, model)
    if model.repository is not None:
        removal = plan_removal(store.repositories.cache, model.repository)
        if removal is None:
            raise ModelNotFound(f"{name} is not in {store.repositories.cache.folder}")
        return removal
    if not model.is_present:
        raise ModelNotFound(f"{name} is not in {store.folder}")
    return _of_path(store, model)


def remove_stored(store: ModelStore, removal: Removal) -> None:
    """Deletes what the plan says."""
    remove(removal, store.repositories.cache)


def _of_catalogue(store: ModelStore) -> Iterator[StoredModel]:
    for model in store.models():
        if model.is_present:
            yield _stored(model.name, "catalogue", model.path, [model.path])


def _of_hub(store: ModelStore) -> Iterator[StoredModel]:
    models = list(store.repositories.cache.models())
    kinds = Counter((model.repository, model.quantisation) for model in models)
    for model in models:
        is_one = kinds[model.repository, model.quantisation] == 1
        name = _name(model, is_one=is_one)
        if isinstance(parse_name(name), HubName):
            yield _stored(name, "hub", model.path, model.files)


def _name(model: CachedModel, *, is_one: bool) -> str:
    if model.is_folder:
        return model.repository
    if model.quantisation and is_one:
        return f"{model.repository}:{model.quantisation}"
    return f"{model.repository}/{model.file}"


def _of_folder(store: ModelStore) -> Iterator[StoredModel]:
    known = {model.path for model in store.models()}
    for path in sorted(store.folder.rglob("*.gguf")):
        parts = [path.with_name(name) for name in part_names(path.name)]
        if path not in known and is_model(path.name) and all(part.is_file() for part in parts):
            yield _stored(str(path), "folder", path, parts)
    for path in sorted(store.folder.glob("*")):
        if is_checkpoint_folder(path):
            files = [file for file in path.iterdir() if file.is_file()]
            yield _stored(str(path), "folder", path, files)


def _stored(name: str, place: Place, path: Path, files: Sequence[Path]) -> StoredModel:
    states = [file.stat() for file in files]
    return StoredModel(
        name=name,
        place=place,
        path=str(path),
        size=sum(state.st_size for state in states),
        quantisation="" if path.is_dir() else quantisation_of(path.name),
        last_used=max(max(state.st_atime, state.st_mtime) for state in states),
        is_folder=path.is_dir(),
    )


def _of_known(store: ModelStore, model: Model) -> Removal:
    beside = (
        model.path,
        model.path.with_name(f"{model.path.name}.part"),
        marks.file_of(model.path),
    )
    files = [path for path in beside if path.exists()]
    scratch = store.folder / f".{model.path.name}.pull"
    if not files and not scratch.exists():
        raise ModelNotFound(f"{model.name} is not in {store.folder}")
    return Removal(
        names=(model.name,),
        files=tuple(files),
        folders=(scratch,) if scratch.exists() else (),
        num_bytes=sum(path.stat().st_size for path in files),
    )


def _of_path(store: ModelStore, model: Model) -> Removal:
    path = model.path.absolute()
    place = path.parent.resolve() / path.name
    folder = store.folder.resolve()
    if folder not in place.parents:
        raise SetupError(
            f"{model.path} lies neither in {store.folder} nor in the hub's cache under a name of"
            " its own; delete it yourself"
        )
    if model.is_folder and not path.is_symlink():
        files = [file for file in path.rglob("*") if file.is_file() and not file.is_symlink()]
        size = sum(file.stat().st_size for file in files)
        return Removal(names=(str(path),), files=(), folders=(path,), num_bytes=size)
    parts = (
        [path] if path.is_symlink() else [path.with_name(name) for name in part_names(path.name)]
    )
    parts = [part for part in parts if part.is_file() or part.is_symlink()]
    size = sum(part.lstat().st_size for part in parts)
    return Removal(names=(str(path),), files=tuple(parts), num_bytes=size)
