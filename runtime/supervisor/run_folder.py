"""The temporary folder of one engine process: its socket and its flight record.

The gateway holds a lock in the folder for as long as it needs it. The system frees the lock when
the gateway dies, however that happens, so a folder whose lock is free has been left behind.
"""

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from filelock import FileLock, Timeout

log = structlog.get_logger(__name__)

PREFIX = "lockgate-"
LOCK_NAME = "owner.lock"

MIN_AGE_SECONDS = 60.0
"""A younger folder may be one whose gateway has not locked it yet."""


@contextmanager
def run_folder() -> Iterator[Path]:
    """A new folder that exists, and is locked, until the end of the block."""
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as name:
        folder = _named_in_text(name)
        lock = FileLock(folder / LOCK_NAME)
        with lock:
            yield folder


def clear_stale_folders() -> None:
    """Remove the folders that gateways of this user have left behind when they were killed together
    with their engines. Folders in use, and those that are not sure to be ours, stay."""
    with contextlib.suppress(OSError):  # without a temporary folder nothing can be left
        for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            if _is_ours(folder) and _is_free(folder / LOCK_NAME):
                shutil.rmtree(folder, ignore_errors=True)
                log.info("stale_folder_removed", path=str(folder))


def _named_in_text(name: str) -> Path:
    """Raises OSError for a folder whose name is no text: a socket's address has to be one."""
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(name).decode(errors="backslashreplace")
        raise OSError(f"the name of the temporary folder {shown} is not valid UTF-8") from None
    return Path(name)


def _is_ours(folder: Path) -> bool:
    try:
        status = folder.lstat()
        is_old = time.time() - status.st_mtime > MIN_AGE_SECONDS
        is_own = sys.platform == "win32" or status.st_uid == os.getuid()
        return is_old and is_own and folder.is_dir() and not folder.is_symlink()
    except OSError:
        return False


def _is_free(lock: Path) -> bool:
    if not lock.is_file() or lock.is_symlink():
        return False
    try:
        FileLock(lock).acquire(timeout=0).lock.release()
    except (Timeout, OSError):
        return False
    return True
