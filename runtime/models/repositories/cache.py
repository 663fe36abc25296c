"""The cache that the hub's own tools share: what lies in it, and how a file gets into it.

A file's content is a blob, named by its hash. A snapshot is a folder for each commit with links to
blobs under the files' own names, and a ref is the commit of a branch.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from runtime.models.gguf import part_names
from runtime.models.hf_folder import is_checkpoint_folder
from runtime.models.repositories.listing import (
    Form,
    RemoteFile,
    is_model,
    matching,
    quantisation_of,
)
from runtime.models.repositories.names import HubName
from runtime.whole_file import write_whole

_PREFIX = "models--"
_SHA256 = re.compile("[0-9a-f]{64}")
_COMMIT = re.compile("[0-9a-f]{40}")
_INDEX = "model.safetensors.index.json"


class CachedModel(Struct, frozen=True, kw_only=True):
    """A whole model in the cache: a GGUF file, of a split one all parts, or a folder's files.
    `path` is what an engine loads, and `file` its path in the repository, "" for a folder."""

    repository: str
    commit: str
    path: Path
    files: tuple[Path, ...]
    quantisation: str
    is_folder: bool
    file: str = ""


class _Index(Struct, frozen=True):
    weight_map: dict[str, str] = {}


class HubCache:
    """The cache in this folder, which need not exist."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, name: HubName, form: Form = "any") -> CachedModel | None:
        """The whole model that the name can mean and that is here, if there is one. The commit of
        its branch goes before others."""
        for commit in self._commits(name):
            if found := self._in_snapshot(name, commit, form):
                return found
        return None

    def models(self) -> Iterator[CachedModel]:
        """All whole models, each once: in the newest commit that has it."""
        for repository in self.repositories():
            seen: set[str] = set()
            for commit in self._commits(HubName(repository=repository)):
                for model in self._all_in(repository, commit):
                    if model.file not in seen:
                        seen.add(model.file)
                        yield model

    def repositories(self) -> list[str]:
        """The ids of the repositories of which there is something."""
        if not self.folder.is_dir():
            return []
        names = sorted(path.name for path in self.folder.iterdir() if path.is_dir())
        ids = (name[len(_PREFIX) :].split("--") for name in names if name.startswith(_PREFIX))
        return ["/".join(parts) for parts in ids if len(parts) == 2]

    def repository_folder(self, repository: str) -> Path:
        """The folder of a repository."""
        return self.folder / (_PREFIX + repository.replace("/", "--"))

    def blob(self, repository: str, oid: str) -> Path:
        """Where the content with this hash is or would be."""
        return self.repository_folder(repository) / "blobs" / oid

    def snapshots(self, repository: str) -> list[Path]:
        """The folders of its commits, the newest first."""
        folder = self.repository_folder(repository) / "snapshots"
        if not folder.is_dir():
            return []
        found = [path for path in folder.iterdir() if path.is_dir()]
        return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)

    def content(self, repository: str, commit: str, file: RemoteFile) -> Path:
        """Where the file's content is or would be: in the snapshot, if there are no links."""
        blob, path = self.blob(repository, file.oid), self._snapshot(repository, commit) / file.path
        return path if not blob.exists() and path.is_file() else blob

    def link(self, repository: str, commit: str, file: RemoteFile) -> Path:
        """Gives the blob its name in the snapshot. Where the system has no symbolic links the blob
        itself moves there, as the hub's own library does it."""
        blob = self.blob(repository, file.oid)
        path = self._snapshot(repository, commit) / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):
            if path.exists() and (not blob.exists() or path.samefile(blob)):
                return path
        _make_link(blob, path)
        return path

    def set_ref(self, repository: str, ref: str, commit: str) -> None:
        """Notes which commit the branch or tag points to."""
        path = self.repository_folder(repository) / "refs" / ref
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, commit.encode())

    @contextmanager
    def lock(self, repository: str, oid: str, on_wait: Callable[[], None]) -> Iterator[None]:
        """Held while a blob is fetched; the hub's own library holds the same one. `on_wait` is
        called if somebody else holds it."""
        from filelock import FileLock, Timeout

        folder = self.folder / ".locks" / self.repository_folder(repository).name
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{oid}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            on_wait()
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _snapshot(self, repository: str, commit: str) -> Path:
        return self.repository_folder(repository) / "snapshots" / commit

    def _commits(self, name: HubName) -> list[str]:
        """Those that are here and that the name's revision allows, the best first."""
        known = [path.name for path in self.snapshots(name.repository)]
        if _COMMIT.fullmatch(name.revision):
            return [commit for commit in known if commit == name.revision]
        ref = self.repository_folder(name.repository) / "refs" / (name.revision or "main")
        try:
            first = ref.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            first = ""
        others = [] if name.revision else [commit for commit in known if commit != first]
        return [first, *others] if first in known else others

    def _in_snapshot(self, name: HubName, commit: str, form: Form) -> CachedModel | None:
        paths = self._paths(name.repository, commit)
        wants_any = not name.tag and not name.file
        if wants_any and form == "folder":
            return self._folder(name.repository, commit)
        for path in matching(paths, name):
            if found := self._gguf(name.repository, commit, path):
                return found
        return self._folder(name.repository, commit) if wants_any and form != "gguf" else None

    def _all_in(self, repository: str, commit: str) -> Iterator[CachedModel]:
        for path in filter(is_model, self._paths(repository, commit)):
            if found := self._gguf(repository, commit, path):
                yield found
        if folder := self._folder(repository, commit):
            yield folder

    def _paths(self, repository: str, commit: str) -> list[str]:
        snapshot = self._snapshot(repository, commit)
        found = (path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*.[gG][gG]*"))
        return sorted(found)

    def _gguf(self, repository: str, commit: str, path: str) -> CachedModel | None:
        files = tuple(self._snapshot(repository, commit) / part for part in part_names(path))
        if not all(file.is_file() for file in files):
            return None
        return CachedModel(
            repository=repository,
            commit=commit,
            path=files[0],
            files=files,
            quantisation=quantisation_of(path),
            is_folder=False,
            file=path,
        )

    def _folder(self, repository: str, commit: str) -> CachedModel | None:
        folder = self._snapshot(repository, commit)
        if not _is_whole_folder(folder):
            return None
        files = tuple(sorted(path for path in folder.iterdir() if path.is_file()))
        return CachedModel(
            repository=repository,
            commit=commit,
            path=folder,
            files=files,
            quantisation="",
            is_folder=True,
        )


def published_sha256(path: Path) -> str:
    """The SHA-256 that the hub gives the file, if it lies in the hub's cache; otherwise ""."""
    try:
        blob = Path(os.path.normpath(path.parent / os.readlink(path)))
    except OSError:  # no link
        return ""
    is_blob = blob.parent.name == "blobs" and blob.parent.parent.name.startswith(_PREFIX)
    return blob.name if is_blob and _SHA256.fullmatch(blob.name) else ""


def _make_link(blob: Path, path: Path) -> None:
    path.unlink(missing_ok=True)
    try:
        os.symlink(os.path.relpath(blob, path.parent), path)
    except OSError:
        if os.name != "nt":
            raise
        shutil.move(blob, path)


def _is_whole_folder(folder: Path) -> bool:
    if not is_checkpoint_folder(folder):
        return False
    try:
        index = msgspec.json.decode((folder / _INDEX).read_bytes(), type=_Index)
    except FileNotFoundError:
        return any(path.is_file() for path in folder.glob("*.safetensors"))
    except (OSError, msgspec.DecodeError):
        return False
    return all((folder / name).is_file() for name in set(index.weight_map.values()))
