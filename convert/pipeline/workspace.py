"""The folder in which a checkpoint grows until it is whole.

It stands beside the target as TARGET.partial. Each finished weight is a line in its journal, with
the checksums of what was written, so that an interrupted run goes on where it was. The manifest is
written last and the folder renamed: a target that exists is complete.
"""

import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import msgspec
from filelock import FileLock, Timeout

from convert.pipeline import manifest
from convert.pipeline.manifest import Manifest, TensorRecord, encode_manifest
from convert.tensors.safetensors_file import Place, Shard, create_file
from runtime.errors import SetupError

_JOURNAL = "journal.jsonl"
_PLAN = "plan.txt"
_CHUNK = 1 << 20


class Workspace:
    """`done` are the weights that were finished before, by name."""

    def __init__(self, target: Path, folder: Path, shards: list[Shard]) -> None:
        self._target = target
        self.folder = folder
        self._places = {place.output.name: place for shard in shards for place in shard.places}
        self._shards = shards
        self._lock = Lock()
        for shard in shards:
            create_file(folder, shard)
        self.done = {record.name: record for record in self._read_journal()}

    def place(self, output: str) -> Place:
        return self._places[output]

    def path(self, output: str) -> Path:
        """The file that an output lies in."""
        return self.folder / self._places[output].file

    def record(self, record: TensorRecord) -> None:
        """Note that a weight is finished. Called by any thread."""
        line = msgspec.json.encode(record) + b"\n"
        with self._lock, open(self.folder / _JOURNAL, "ab") as journal:
            journal.write(line)
            self.done[record.name] = record

    def finish(self, result: Manifest) -> None:
        """Write the manifest and move the folder to its place."""
        for shard in self._shards:
            _sync(self.folder / shard.file)
        path = self.folder / manifest.FILE
        path.write_bytes(encode_manifest(result))
        _sync(path)
        refuse_existing(self._target)
        self.folder.rename(self._target)
        # only now: a run that is killed earlier needs them to resume
        (self._target / _JOURNAL).unlink(missing_ok=True)
        (self._target / _PLAN).unlink()

    def _read_journal(self) -> Iterator[TensorRecord]:
        """Records whose bytes are unchanged on disk; a truncated last line is ignored."""
        path = self.folder / _JOURNAL
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        kept = []
        for line in lines:
            record = _record(line)
            if record is not None and self._is_intact(record):
                kept.append(line)
                yield record
        path.write_bytes(b"".join(kept))

    def _is_intact(self, record: TensorRecord) -> bool:
        return all(
            name in self._places and checksum(self.folder, self._places[name]) == crc
            for name, crc in record.crc32.items()
        )


@contextmanager
def open_workspace(target: Path, plan: str, shards: list[Shard]) -> Iterator[Workspace]:
    """Begin, or go on with, a target. `plan` says what is being made, in one line.

    Raises SetupError when the target exists, when another process works on it, when the workspace
    belongs to a different plan, when the disk is too small, is or becomes full, or cannot be
    written for another reason.
    """
    refuse_existing(target)
    folder = target.with_name(target.name + ".partial")
    lock = _lock(target)
    try:
        _begin(folder, plan, shards)
        yield Workspace(target, folder, shards)
    except OSError as error:
        raise SetupError(
            f"{error.filename or folder}: {error.strerror or error}. What is finished stays in"
            f" {folder}; the same command goes on with it."
        ) from error
    finally:
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


def _lock(target: Path) -> FileLock:
    path = target.with_name(f".{target.name}.lock")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # a lock that cannot be created looks like a lock of another process
        path.touch()
    except OSError as error:
        raise SetupError(
            f"{target.parent}: cannot be written to: {error.strerror or error}."
        ) from error
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise SetupError(f"{target}: another process is writing it.") from error
    return lock


def refuse_existing(target: Path) -> None:
    """Raises SetupError when there is anything at that path."""
    if target.exists() or target.is_symlink():
        raise SetupError(f"{target} exists and is not overwritten; choose another name.")


def checksum(folder: Path, place: Place) -> int:
    """The CRC-32 of a tensor's bytes in a file."""
    left, crc = place.output.num_bytes, 0
    with open(folder / place.file, "rb", buffering=0) as file:
        file.seek(place.offset)
        while left and (data := file.read(min(left, _CHUNK))):
            crc = zlib.crc32(data, crc)
            left -= len(data)
    return crc if not left else -1


def _begin(folder: Path, plan: str, shards: list[Shard]) -> None:
    if folder.exists():
        path = folder / _PLAN
        if not path.is_file() or path.read_text(encoding="utf-8") != plan:
            raise SetupError(
                f"{folder} was begun with another source or other options; remove it first."
            )
        return
    needed = sum(shard.num_bytes for shard in shards)
    free = shutil.disk_usage(folder.parent).free
    if needed > free:
        raise SetupError(
            f"{folder.parent}: needs {needed / 1e9:.1f} GB of disk, {free / 1e9:.1f} GB are free."
        )
    folder.mkdir()
    (folder / _PLAN).write_text(plan, encoding="utf-8")


def _record(line: bytes) -> TensorRecord | None:
    try:
        return msgspec.json.decode(line, type=TensorRecord) if line.endswith(b"\n") else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _sync(path: Path) -> None:
    with open(path, "r+b") as file:
        os.fsync(file.fileno())
