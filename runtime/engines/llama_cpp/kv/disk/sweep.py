"""Keeping the folder of all models' blocks within its size, and its files within their age."""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from runtime.engines.llama_cpp.kv.disk.names import BLOCK, FOLDER, UNFINISHED_BLOCK

AUTO_BYTES = 10_000_000_000
AUTO_SHARE = 0.1
"""Of the disk that is free, or that blocks take already, how much "auto" takes at most."""

SPARE_SHARE = 0.1
"""How far below the limit a sweep goes that has to remove something, so that the next one comes
after a while."""

UNFINISHED_SECONDS = 600.0
"""Age at which a file that nobody finished is what a killed process has left."""

FUTURE_SECONDS = 86_400.0
"""A file that was used this long after now was so by a clock that was wrong."""

DAY = 86_400.0


class Limits(Struct, frozen=True):
    """`max_bytes` of all blocks together; None is `AUTO_BYTES`, or less on a full disk. Blocks that
    nobody has used for `max_seconds` go; 0 is no limit."""

    max_bytes: int | None
    max_seconds: float


class Swept(Struct, frozen=True):
    """The size of all blocks and the limit that holds for it now, in bytes."""

    num_bytes: int
    max_bytes: int


class _File(Struct, frozen=True):
    used: float
    size: int
    path: str


def sweep(base: Path, limits: Limits) -> Swept:
    """Remove blocks that are too old, then those that nobody has used for longest, until the others
    fit. Raises OSError when the folder cannot be read; what cannot be removed stays."""
    now = time.time()
    files = sorted(_files(base, now), key=lambda file: file.used)
    total = sum(file.size for file in files)
    most = _most(base, limits, total)
    goal = most if total <= most else int((1 - SPARE_SHARE) * most)
    for file in files:
        is_old = limits.max_seconds and now - file.used > limits.max_seconds
        if (is_old or total > goal) and _removed(file.path):
            total -= file.size
    _remove_empty_folders(base)
    return Swept(total, most)


def _files(base: Path, now: float) -> Iterator[_File]:
    with os.scandir(base) as folders:
        names = [each.path for each in folders if FOLDER.fullmatch(each.name)]
    for name in names:
        with contextlib.suppress(OSError), os.scandir(name) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # another server has removed it
                    yield from _block(entry, now)


def _block(entry: "os.DirEntry[str]", now: float) -> Iterator[_File]:
    status = entry.stat(follow_symlinks=False)
    used = status.st_mtime
    if UNFINISHED_BLOCK.fullmatch(entry.name) and abs(now - used) > UNFINISHED_SECONDS:
        _removed(entry.path)
    if BLOCK.fullmatch(entry.name):
        if used > now + FUTURE_SECONDS:
            os.utime(entry.path)
        yield _File(min(used, now), status.st_size, entry.path)


def _most(base: Path, limits: Limits, total: int) -> int:
    if limits.max_bytes is not None:
        return limits.max_bytes
    return min(AUTO_BYTES, int(AUTO_SHARE * (shutil.disk_usage(base).free + total)))


def _removed(path: str) -> bool:
    with contextlib.suppress(OSError):  # on Windows while somebody reads it
        os.unlink(path)
        return True
    return False


def _remove_empty_folders(base: Path) -> None:
    for folder in base.iterdir():
        if FOLDER.fullmatch(folder.name):
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()
