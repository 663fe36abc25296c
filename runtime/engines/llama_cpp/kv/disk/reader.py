"""Reading ahead: blocks come from the disk in a thread, while others are computed."""

import threading
from collections import deque
from collections.abc import Collection

from runtime.engines.llama_cpp.kv.disk.store import BlockStore


class BlockReader:
    """A thread that reads what is wanted, in order."""

    def __init__(self, store: BlockStore) -> None:
        self._store = store
        self._changed = threading.Condition()
        self._wanted: deque[bytes] = deque()
        self._read: dict[bytes, bytes | None] = {}
        self._is_closed = False
        threading.Thread(target=self._run, name="prefix-reader", daemon=True).start()

    def want(self, keys: Collection[bytes]) -> None:
        """Read these, in this order, and keep nothing else."""
        with self._changed:
            self._wanted = deque(key for key in dict.fromkeys(keys) if key not in self._read)
            for key in self._read.keys() - set(keys):
                del self._read[key]
            self._changed.notify_all()

    def has_read(self, key: bytes) -> bool:
        """Whether reading the block has come to an end, good or bad."""
        return key in self._read

    def take(self, key: bytes) -> bytes | None:
        """The block, which has been read; None if there is none, or none that is intact."""
        with self._changed:
            return self._read.pop(key)

    def wait(self, seconds: float) -> None:
        """Wait until a block has been read, for so long at most."""
        with self._changed:
            self._changed.wait_for(lambda: self._read or not self._wanted, timeout=seconds)

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._is_closed)
                if self._is_closed:
                    return
                key = self._wanted[0]
            data = self._store.read(key)
            with self._changed:
                if key in self._wanted:
                    self._wanted.remove(key)
                    self._read[key] = data
                    self._changed.notify_all()
