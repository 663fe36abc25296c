"""Small files that are there as a whole or not at all."""

import contextlib
import os
from pathlib import Path


def write_whole(file: Path, data: bytes) -> None:
    """Write a file, in one step for all who read it; its folder is made if it is missing. Raises
    OSError, and leaves nothing then: on Windows a file that somebody reads is not replaced."""
    new = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(data)
        os.replace(new, file)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise
