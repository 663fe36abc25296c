"""A file that is there as a whole or not at all, however large."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.errors import SetupError


@contextmanager
def new_file(path: Path, *, force: bool) -> Iterator[Path]:
    """An empty file beside `path`, which only this user may read and which takes its place when the
    block is over. If an error leaves the block, it is removed. Raises SetupError if `path` is there
    and not to be replaced, and OSError."""
    _reserve(path, force=force)
    new = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        yield new
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        if not force:
            path.unlink(missing_ok=True)
        raise


def _reserve(path: Path, *, force: bool) -> None:
    """Takes the name, so that no other program can while the file is written."""
    if force:
        return
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise SetupError(f"{path} is there already; say --force to overwrite it") from None
