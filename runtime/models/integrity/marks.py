"""Marks of model files whose SHA-256 has been checked, so that it is checked once and not at each
start. They lie beside the files; those of links, which are in caches of other tools, in the user's
cache."""

import contextlib
import hashlib
import os
from pathlib import Path

import msgspec
from msgspec import Struct

from runtime.user_cache import cache_folder
from runtime.whole_file import write_whole

FOLDER = ".checked"


class FileState(Struct, frozen=True):
    """What the file system says of a file. Every write changes it, a write of equal size too."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


class _Mark(Struct, frozen=True, forbid_unknown_fields=True):
    state: FileState
    sha256: str


def state_of(status: os.stat_result) -> FileState:
    """The state in the answer of `os.stat` or `os.fstat`."""
    return FileState(
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )


def mark(path: Path, state: FileState, sha256: str) -> None:
    """Note that the file had this hash when it was in this state. Where the folder cannot be
    written, nothing is noted, and the next start reads the file again."""
    with contextlib.suppress(OSError):
        write_whole(file_of(path), msgspec.json.encode(_Mark(state, sha256)))


def marked(path: Path, state: FileState) -> str:
    """The hash that the file has, if it is in the state in which it was checked; otherwise ""."""
    try:
        noted = msgspec.json.decode(file_of(path).read_bytes(), type=_Mark)
    except (OSError, msgspec.DecodeError):
        return ""
    return noted.sha256 if noted.state == state else ""


def file_of(path: Path) -> Path:
    """Where the mark of this file is or would be."""
    if path.is_symlink():
        key = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()
        return cache_folder() / "checked" / f"{key[:32]}.json"
    return path.parent / FOLDER / f"{path.name}.json"
