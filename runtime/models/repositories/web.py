"""GGUF files at a URL that is not the hub's. There is no published hash: the file's own header must
account for all of it."""

import contextlib
import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from runtime.errors import ModelFileError, PullError
from runtime.models.gguf import read_gguf
from runtime.models.mirrors import byte_range, receive
from runtime.models.repositories.client import is_worth_a_retry, words_of
from runtime.models.repositories.listing import memory_needed
from runtime.models.repositories.names import WebName
from runtime.models.sources import Fetch, Progress
from runtime.whole_file import write_whole

if TYPE_CHECKING:
    import httpx

FOLDER = "web"
_LOCKS = ".locks"
_CONNECT_TIMEOUT = 5.0
_READ_TIMEOUT = 30.0
_MAX_BREAKS = 5


class WebFiles(Struct, frozen=True, kw_only=True):
    """The files from URLs in a model folder. `memory` is what a model may use, in bytes; 0 is no
    limit. With `is_offline` they are only those that are there."""

    folder: Path
    memory: int = 0
    is_offline: bool = False

    def path(self, name: WebName) -> Path:
        """Where the file is or would be. Each URL has a folder of its own."""
        key = hashlib.sha256(name.url.encode()).hexdigest()[:16]
        return self.folder / FOLDER / key / name.file

    def pull(self, name: WebName, progress: Progress) -> Path:
        """Downloads the file unless it is there. Resumes a broken download, if the server's file is
        the same still. Raises PullError, ModelFileError."""
        from filelock import FileLock

        path = self.path(name)
        locks = self.folder / _LOCKS
        locks.mkdir(parents=True, exist_ok=True)
        with FileLock(locks / f"{path.parent.name}.lock"):
            if path.exists():
                return path
            if self.is_offline:
                raise PullError(
                    f"{name.file} is not in {path.parent}, and nothing is downloaded offline"
                    " (--offline, model.offline)"
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._fetch(name, path, progress)
            except BaseException:
                _tidy(path)
                raise
        return path

    def _fetch(self, name: WebName, path: Path, progress: Progress) -> None:
        part = path.with_name(f"{name.file}.part")
        self._complete(name, part, progress)
        _check_file(name, part)
        os.replace(part, path)
        _etag_file(part).unlink(missing_ok=True)

    def _complete(self, name: WebName, part: Path, progress: Progress) -> None:
        import httpx

        breaks = 0
        while True:
            before = _size(part)
            try:
                if self._download(name, part, progress):
                    return
                reason = "the transfer broke off"
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                if not is_worth_a_retry(error):
                    raise PullError(f"{name.file}: {words_of(error)}") from error
                reason = words_of(error)
            breaks = 0 if _size(part) > before else breaks + 1
            if breaks == _MAX_BREAKS:
                raise PullError(f"{name.file}: {reason}")

    def _download(self, name: WebName, part: Path, progress: Progress) -> bool:
        """Whether the whole file is there now."""
        import httpx

        done, etag = _size(part), _etag(part)
        headers = byte_range(done if etag else 0)
        if "Range" in headers:
            headers = {**headers, "If-Range": etag}
        else:
            done = 0
        timeout = httpx.Timeout(_READ_TIMEOUT, connect=_CONNECT_TIMEOUT)
        with (
            part.open("ab") as target,
            httpx.stream(
                "GET", name.url, headers=headers, follow_redirects=True, timeout=timeout
            ) as answer,
        ):
            size = self._size_of(answer, name, part)
            write_whole(_etag_file(part), answer.headers.get("ETag", "").encode())
            job = Fetch(part=part, scratch=part.parent, size=size, progress=progress)
            receive(answer, target, done, job, name.file)
        return _size(part) == size

    def _size_of(self, answer: "httpx.Response", name: WebName, part: Path) -> int:
        """The size of the whole file. Raises PullError for an error, and for a file for which there
        is no room."""
        if answer.status_code not in (200, 206):
            raise PullError(f"{name.file}: the server answered {answer.status_code}")
        length = answer.headers.get("Content-Length", "")
        whole = answer.headers.get("Content-Range", "").rpartition("/")[2] or length
        if not whole.isdigit():
            raise PullError(f"{name.file}: the server does not say how long the file is")
        self._check_room(name, int(whole), part)
        return int(whole)

    def _check_room(self, name: WebName, size: int, part: Path) -> None:
        needed, free = size - _size(part), shutil.disk_usage(part.parent).free
        if needed > free:
            raise PullError(
                f"{name.file} needs {needed / 1e6:,.0f} MB in {self.folder}, where"
                f" {free / 1e6:,.0f} MB are free. Make room, or name another folder in model.folder"
            )
        if self.memory and memory_needed(size) > self.memory:
            raise PullError(
                f"{name.file} needs {memory_needed(size) / 1e9:,.1f} GB of memory, and"
                f" {self.memory / 1e9:,.1f} GB may be used here. To download it all the same, say"
                " lockgate pull --any-size"
            )


def _check_file(name: WebName, part: Path) -> None:
    """Refuses what is no whole GGUF file, and leaves nothing of it."""
    try:
        read_gguf(part)
    except ModelFileError as error:
        part.unlink()
        with contextlib.suppress(OSError):
            _etag_file(part).unlink()
        reason = str(error).partition(": ")[2] or str(error)
        raise ModelFileError(f"{name.file}: {reason} The file was thrown away") from error


def _tidy(path: Path) -> None:
    """Removes what a pull without a result has left, but the beginning of a file."""
    part = path.with_name(f"{path.name}.part")
    if _size(part):
        return
    for file in (part, _etag_file(part)):
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.parent.rmdir()


def _etag_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.etag")


def _etag(part: Path) -> str:
    """A strong tag of the file of which a part is there; "" if there is none."""
    try:
        text = _etag_file(part).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    return text if text.startswith('"') else ""


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
