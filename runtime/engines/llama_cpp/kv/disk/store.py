"""The blocks of one model on disk, and which there are."""

import contextlib
import math
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import structlog
from msgspec import Struct

from runtime.engines.llama_cpp.kv.disk.block_file import read_block, write_block
from runtime.engines.llama_cpp.kv.disk.names import BLOCK, block_name, folder_name
from runtime.engines.llama_cpp.kv.disk.sweep import Limits, sweep

log = structlog.get_logger(__name__)

TOUCH_SECONDS = 3600.0
"""A block that is used again and again is marked as used this often."""

PAUSE_SECONDS = 30.0
"""How long nothing is written after the disk has refused a block."""

SWEEP_SECONDS = 300.0
"""The folder is looked through this often."""


class DiskCounts(Struct):
    """Bytes read and written, and `num_errors` blocks that could not be read or written or were
    damaged. `num_bytes` is the size of all models' blocks."""

    read_bytes: int = 0
    written_bytes: int = 0
    num_errors: int = 0
    num_bytes: int = 0


class BlockStore:
    """Files of blocks in `base`, in the folder of the model that `identity` stands for.

    Its methods are for threads that may wait for the disk; `has`, `is_stale`, `can_write` and
    `take_counts` wait for nothing.

    The index is what this process knows to be there. Another server, or a person, may add and
    remove files at any time: a file that is missing was never there. No method raises OSError: what
    the disk refuses is counted, and told in the log once until it works again.
    """

    def __init__(self, base: Path, identity: bytes, limits: Limits) -> None:
        self._base = base
        self._folder = base / folder_name(identity)
        self._limits = limits
        self._lock = threading.Lock()
        self._used: dict[bytes, float] = {}
        self._counts = DiskCounts()
        self._told: set[str] = set()
        self._paused_until = 0.0
        self._swept_at = -math.inf
        self._max_bytes = 0
        self._has_written = False
        self._refresh()

    @property
    def can_write(self) -> bool:
        """Whether blocks are taken; not for a while after the disk has refused one."""
        return time.monotonic() >= self._paused_until

    def has(self, key: bytes) -> bool:
        """Whether the block is there, as far as this process knows."""
        return key in self._used

    def is_stale(self, key: bytes) -> bool:
        """Whether the block is there and its last use has been noted long ago."""
        used = self._used.get(key)
        return used is not None and time.monotonic() - used > TOUCH_SECONDS

    def write(self, key: bytes, data: bytes) -> None:
        """Keep a block, unless it is there."""
        if self.has(key) or not self.can_write:
            return
        path = self._path(key)
        with self._guarded("write"):
            _make_folder(self._folder)
            size = 0 if path.exists() else write_block(path, key, data)
            self._used[key] = time.monotonic()
            self._has_written = True
            with self._lock:
                self._counts.written_bytes += size
                self._counts.num_bytes += size
            return
        self._paused_until = time.monotonic() + PAUSE_SECONDS

    def read(self, key: bytes) -> bytes | None:
        """The contents of a block; None if there is none. A damaged one is removed."""
        with self._guarded("read"):
            try:
                data = read_block(self._path(key), key)
            except FileNotFoundError:
                self._forget(key)
                return None
            if data is None:
                self.discard(key)
                return None
            self.touch(key)
            with self._lock:
                self._counts.read_bytes += len(data)
            return data
        self._forget(key)
        return None

    def touch(self, key: bytes) -> None:
        """Note that a block was used now."""
        self._used[key] = time.monotonic()
        with contextlib.suppress(OSError):  # a folder that nobody may write keeps its order
            os.utime(self._path(key))

    def discard(self, key: bytes) -> None:
        """Remove a block that cannot be used."""
        path = self._path(key)
        self._tell("damage", "prefix_block_damaged", path=str(path))
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        self._forget(key)  # last, or a look at the folder meanwhile would find it
        with self._lock:
            self._counts.num_errors += 1

    def sweep_if_due(self) -> None:
        """Keep to the limits, and learn what other servers have added and removed."""
        now = time.monotonic()
        if not (self._is_full() or now - self._swept_at >= SWEEP_SECONDS):
            return
        self._swept_at, self._has_written = now, False
        with self._guarded("sweep"):
            _make_folder(self._base)
            swept = sweep(self._base, self._limits)
            self._max_bytes = swept.max_bytes
            with self._lock:
                self._counts.num_bytes = swept.num_bytes
        self._refresh()

    def take_counts(self) -> DiskCounts:
        """What happened since the last call."""
        with self._lock:
            counts = self._counts
            self._counts = DiskCounts(num_bytes=counts.num_bytes)
        return counts

    def _is_full(self) -> bool:
        return self._has_written and self._counts.num_bytes > self._max_bytes

    def _refresh(self) -> None:
        """Look which blocks there are: by name alone, which is cheap. A block that is forgotten
        meanwhile may have been seen, and stays forgotten."""
        found: set[bytes] = set()
        with self._lock:
            before = set(self._used)
        with self._guarded("read"), contextlib.suppress(FileNotFoundError):
            found.update(_keys(self._folder))
        with self._lock:
            known = self._used
            there = [key for key in found if key in known or key not in before]
            self._used = {key: known.get(key, -math.inf) for key in there}

    def _forget(self, key: bytes) -> None:
        with self._lock:
            self._used.pop(key, None)

    def _path(self, key: bytes) -> Path:
        return self._folder / block_name(key)

    @contextlib.contextmanager
    def _guarded(self, action: str) -> Iterator[None]:
        """Counts an OSError of the block and goes on behind it."""
        try:
            yield
        except OSError as error:
            with self._lock:
                self._counts.num_errors += 1
            self._tell(action, "prefix_cache_disk_failed", action=action, reason=str(error))
            return
        if action in self._told:
            self._told.discard(action)
            log.info("prefix_cache_disk_works_again", action=action)

    def _tell(self, kind: str, event: str, **details: str) -> None:
        """The first of a kind goes to the log; all are counted."""
        if kind not in self._told:
            self._told.add(kind)
            log.warning(event, **details)


def _make_folder(folder: Path) -> None:
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


def _keys(folder: Path) -> Iterator[bytes]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if found := BLOCK.fullmatch(entry.name):
                yield bytes.fromhex(found[1])
