"""Writing behind: blocks go to the disk from a thread, and nobody waits for it."""

import threading
from collections import deque

from runtime.engines.llama_cpp.kv.disk.store import SWEEP_SECONDS, BlockStore


class BlockWriter:
    """A thread and its queue, of `max_bytes` at most. What does not fit is dropped and counted."""

    def __init__(self, store: BlockStore, max_bytes: int) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._changed = threading.Condition()
        self._queue: deque[tuple[bytes, bytes | None]] = deque()
        self._queued: set[bytes] = set()
        self._num_bytes = 0
        self._num_dropped = 0
        self._is_busy = True
        self._is_closed = False
        threading.Thread(target=self._run, name="prefix-writer", daemon=True).start()

    def takes(self, key: bytes) -> bool:
        """Whether the block is to be written: it is neither there nor in the queue."""
        return not self._store.has(key) and key not in self._queued

    def write(self, key: bytes, data: bytes) -> None:
        """Queue a block."""
        with self._changed:
            fits = self._num_bytes + len(data) <= self._max_bytes
            if not (fits and self._store.can_write):
                self._num_dropped += 1
                return
            self._queue.append((key, data))
            self._queued.add(key)
            self._num_bytes += len(data)
            self._changed.notify_all()

    def touch(self, key: bytes) -> None:
        """Have it noted that a block was used, unless that was noted a while ago."""
        if self._store.is_stale(key) and key not in self._queued:
            with self._changed:
                self._queue.append((key, None))
                self._queued.add(key)
                self._changed.notify_all()

    def take_num_dropped(self) -> int:
        """Blocks that were dropped since the last call."""
        num_dropped, self._num_dropped = self._num_dropped, 0
        return num_dropped

    def flush(self, seconds: float) -> bool:
        """Wait until all is written, for so long at most. Whether it is."""
        with self._changed:
            return self._changed.wait_for(self._is_done, timeout=seconds)

    def close(self, seconds: float) -> None:
        """End the thread, when all is written or after so long at most."""
        self.flush(seconds)
        with self._changed:
            self._is_closed = True
            self._queue.clear()
            self._changed.notify_all()

    def _is_done(self) -> bool:
        return not (self._queue or self._is_busy)

    def _run(self) -> None:
        while not self._is_closed:
            self._store.sweep_if_due()
            if (job := self._next()) is not None:
                self._do(*job)

    def _next(self) -> tuple[bytes, bytes | None] | None:
        """What to do next. None after a while without anything, so that a sweep is not late."""
        with self._changed:
            if not self._queue:
                self._is_busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._queue or self._is_closed, SWEEP_SECONDS)
            self._is_busy = bool(self._queue)
            return self._queue.popleft() if self._queue else None

    def _do(self, key: bytes, data: bytes | None) -> None:
        if data is None:
            self._store.touch(key)
        else:
            self._store.write(key, data)
        with self._changed:
            self._queued.discard(key)
            self._num_bytes -= len(data or b"")
