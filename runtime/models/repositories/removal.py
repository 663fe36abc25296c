"""Removes models from the hub's cache: names, and the contents that no other name has."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from msgspec import Struct

from runtime.errors import SetupError
from runtime.models.gguf import part_names
from runtime.models.repositories.cache import HubCache
from runtime.models.repositories.listing import is_model, matching
from runtime.models.repositories.names import HubName


class Removal(Struct, frozen=True, kw_only=True):
    """What a removal takes away: files that are deleted, `names` that models lose, and folders that
    go as a whole, those of locks last. `num_bytes` become free."""

    names: tuple[str, ...]
    files: tuple[Path, ...]
    folders: tuple[Path, ...] = ()
    lock_folders: tuple[Path, ...] = ()
    num_bytes: int = 0


def plan_removal(cache: HubCache, name: HubName) -> Removal | None:
    """What goes with the name: all that it can mean, in every commit; a repository's name alone is
    the whole repository. None if there is nothing."""
    folder = cache.repository_folder(name.repository)
    if not folder.is_dir():
        return None
    _check_inside(folder, cache.folder)
    entries = {path: _target(path) for snapshot in _snapshots(folder) for path in _files(snapshot)}
    chosen = _chosen(cache, name, entries)
    if not chosen and (name.tag or name.file):
        return None
    shown = tuple(sorted({_shown(path, folder) for path in chosen if is_model(path.name)}))
    if len(chosen) == len(entries):
        contents = [path for path in folder.glob("blobs/*") if path.is_file()]
        contents += [path for path in entries if path.is_file()]
        freed = _freed([*contents, *_shared(cache, contents)])
        return Removal(
            names=shown or (name.repository,),
            files=tuple(_shared(cache, contents)),
            folders=(folder,),
            lock_folders=(cache.folder / ".locks" / folder.name,),
            num_bytes=freed,
        )
    kept = {target for path, target in entries.items() if path not in chosen}
    blobs = sorted({entries[path] for path in chosen} - kept)
    blobs = [blob for blob in blobs if blob.parent == folder / "blobs"]
    files = [*chosen, *blobs, *_shared(cache, blobs)]
    return Removal(names=shown, files=tuple(files), num_bytes=_freed(files))


def remove(removal: Removal, cache: HubCache) -> None:
    """Deletes what the plan says. Raises SetupError while a pull of it runs."""
    with _unused(cache, removal):
        for path in removal.files:
            path.unlink(missing_ok=True)
        for folder in removal.folders:
            shutil.rmtree(folder, ignore_errors=not folder.exists())
    for folder in removal.lock_folders:  # Windows deletes no file that is open
        shutil.rmtree(folder, ignore_errors=True)
    for path in removal.files:
        _remove_empty(path.parent, cache.folder)


def _chosen(cache: HubCache, name: HubName, entries: dict[Path, Path]) -> list[Path]:
    if not name.tag and not name.file:
        return list(entries)
    chosen: list[Path] = []
    for snapshot in cache.snapshots(name.repository):
        known = {path.relative_to(snapshot).as_posix(): path for path in _files(snapshot)}
        parts = (part for path in matching(known, name)[:1] for part in part_names(path))
        chosen += [known[part] for part in parts if part in known]
    return chosen


def _snapshots(folder: Path) -> list[Path]:
    snapshots = folder / "snapshots"
    return [path for path in snapshots.iterdir() if path.is_dir()] if snapshots.is_dir() else []


def _files(snapshot: Path) -> Iterator[Path]:
    """The names in a snapshot; no link to a folder is followed."""
    for parent, _, names in os.walk(snapshot):
        for name in names:
            yield Path(parent, name)


def _target(path: Path) -> Path:
    """The blob that a link of a snapshot has; the file itself, if it is no link."""
    if not path.is_symlink():
        return path
    return Path(os.path.normpath(path.parent / os.readlink(path)))


def _shared(cache: HubCache, blobs: Sequence[Path]) -> list[Path]:
    """Contents beside the repositories, which several have, and which only these blobs link to."""
    store = cache.folder / "blobs"
    links = {blob: _target(blob) for blob in blobs if blob.is_symlink()}
    mine = {target for target in links.values() if store in target.parents}
    if not mine:
        return []
    others = (path for path in cache.folder.glob("models--*/blobs/*") if path not in links)
    kept = {_target(path) for path in others if path.is_symlink()}
    return sorted(mine - kept)


def _freed(files: Sequence[Path]) -> int:
    return sum(
        path.stat().st_size
        for path in set(files)
        if path.is_file() and not path.is_symlink() and path.stat().st_nlink == 1
    )


def _shown(path: Path, folder: Path) -> str:
    file = Path(*path.relative_to(folder / "snapshots").parts[1:]).as_posix()
    return f"{folder.name.removeprefix('models--').replace('--', '/')}/{file}"


def _check_inside(folder: Path, cache: Path) -> None:
    """Raises SetupError for a folder of the cache that is a link to elsewhere."""
    if folder.is_symlink() or folder.resolve().parent != cache.resolve():
        raise SetupError(f"{folder} leads out of {cache}; nothing is deleted there")


@contextmanager
def _unused(cache: HubCache, removal: Removal) -> Iterator[None]:
    """Holds the locks of what goes, so that no pull begins or runs."""
    from filelock import FileLock, Timeout

    oids = {path.name for path in removal.files if path.parent.name == "blobs"}
    folders = {path.parent.parent.name for path in removal.files if path.parent.name == "blobs"}
    locks = [cache.folder / ".locks" / name / f"{oid}.lock" for name in folders for oid in oids]
    locks += [path for folder in removal.lock_folders for path in folder.glob("*.lock")]
    with ExitStack() as stack:
        for lock in filter(Path.exists, locks):
            try:
                stack.enter_context(FileLock(lock, timeout=0))
            except Timeout:
                names = ", ".join(removal.names)
                raise SetupError(f"{names} is being pulled; wait for that to end") from None
        yield


def _remove_empty(folder: Path, end: Path) -> None:
    """Removes folders that have become empty, up to `end`."""
    with contextlib.suppress(OSError):
        while folder != end and end in folder.parents:
            folder.rmdir()
            folder = folder.parent
