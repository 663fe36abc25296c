"""Hashes of model files: of the whole, and of a sample that is read in a moment."""

import hashlib
from pathlib import Path

from runtime.models.sources import COPY_BYTES, Progress

NUM_SAMPLES = 128
SAMPLE_BYTES = 1 << 16


def sha256(path: Path, progress: Progress | None = None) -> str:
    """The SHA-256 of a file, in hex. Reads all of it: seconds for each gigabyte."""
    digest = hashlib.sha256()
    size = path.stat().st_size
    done = 0
    with path.open("rb") as file:
        while block := file.read(COPY_BYTES):
            digest.update(block)
            done += len(block)
            if progress is not None:
                progress(done, size, "checking")
    return digest.hexdigest()


def sample(path: Path) -> str:
    """A hash of pieces from all over the file, in hex. A file that has been written anew has
    another one; a change of a few bytes may be missed."""
    digest = hashlib.sha256()
    size = path.stat().st_size
    with path.open("rb", buffering=0) as file:
        for index in range(NUM_SAMPLES):
            file.seek(max(0, size - SAMPLE_BYTES) * index // (NUM_SAMPLES - 1))
            digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()
