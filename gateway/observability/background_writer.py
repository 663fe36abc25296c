"""Output that is written by a thread of its own.

Whoever writes into a full pipe waits until somebody reads it, and a log's reader may stop reading.
Only this thread waits then.
"""

import io
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

import structlog

MAX_PENDING_BYTES = 1_000_000
"""Bytes that may wait for the reader. What comes on top is dropped, and counted in lines."""

MAX_BATCH_BYTES = 65_536
LAST_WORDS_SECONDS = 1.0
"""How long the end of the program waits for the reader."""


class BackgroundWriter:
    """Writes to `stream` without making its callers wait. `num_lost` counts the lines that were
    dropped, because too many wait or because the stream cannot be written (full disk, closed
    reader). `on_failure` is told each time that it cannot be written, and `on_recovery` how many
    lines were lost when it can again. Thread-safe."""

    def __init__(
        self,
        stream: TextIO,
        on_failure: Callable[[OSError], None] = lambda _: None,
        on_recovery: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.num_lost = 0
        self._stream = stream
        self._descriptor = _descriptor(stream)
        self._on_failure = on_failure
        self._on_recovery = on_recovery
        self._pending: deque[bytes] = deque()
        self._num_bytes = 0  # those that are being written included
        self._num_unreported = 0
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="log-writer", daemon=True).start()

    def write(self, data: bytes) -> None:
        """Hands `data` to the thread, or drops it."""
        if not data:
            return
        with self._changed:
            if self._num_bytes and self._num_bytes + len(data) > MAX_PENDING_BYTES:
                self._lose(data)
                return
            self._pending.append(data)
            self._num_bytes += len(data)
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Waits until everything is written, for `timeout` seconds at most. Returns whether it
        is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._num_bytes, timeout)

    def _run(self) -> None:
        while True:
            batch = self._next_batch()
            try:
                self._write_all(batch)
            except OSError as error:
                with self._changed:
                    self._lose(batch)
                self._on_failure(error)
            else:
                self._report_losses(len(batch))
            with self._changed:
                self._num_bytes -= len(batch)
                self._changed.notify_all()

    def _next_batch(self) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: self._pending)
            batch = [self._pending.popleft()]
            size = len(batch[0])
            while self._pending and size + len(self._pending[0]) <= MAX_BATCH_BYTES:
                size += len(self._pending[0])
                batch.append(self._pending.popleft())
        return b"".join(batch)

    def _report_losses(self, num_written: int) -> None:
        """Waits with its report until there is room, or it would be lost itself."""
        with self._changed:
            has_room = self._num_bytes - num_written < MAX_PENDING_BYTES // 2
            num_lines, self._num_unreported = (
                (self._num_unreported, 0) if has_room else (0, self._num_unreported)
            )
        if num_lines:
            self._on_recovery(num_lines)

    def _write_all(self, data: bytes) -> None:
        """Writes past the stream's own buffer: its lock must not be held when Python shuts down."""
        if self._descriptor is None:
            self._stream.write(data.decode(errors="replace"))
            self._stream.flush()
            return
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # somebody else has made it non-blocking
                select.select([], [self._descriptor], [])

    def _lose(self, data: bytes) -> None:
        num_lines = data.count(b"\n") or 1
        self.num_lost += num_lines
        self._num_unreported += num_lines


def _descriptor(stream: TextIO) -> int | None:
    """None for a stream in memory, and for a console of Windows, which takes text."""
    if sys.platform == "win32" and stream.isatty():
        return None
    try:
        return stream.fileno()
    except io.UnsupportedOperation:
        return None


@contextmanager
def stderr_in_background() -> Iterator[BackgroundWriter]:
    """Lets nobody wait who writes to `sys.stderr` within the block."""
    before = sys.stderr
    writer = BackgroundWriter(before, on_recovery=_report)
    sys.stderr = _Stream(before, writer)
    try:
        yield writer
    finally:
        if writer.flush(LAST_WORDS_SECONDS):
            sys.stderr = before


def _report(num_lines: int) -> None:
    structlog.get_logger(__name__).warning("log_lines_lost", num_lines=num_lines)


class _Stream(io.TextIOBase):
    """What `sys.stderr` is within `stderr_in_background`."""

    def __init__(self, original: TextIO, writer: BackgroundWriter) -> None:
        self._original = original
        self._writer = writer

    def write(self, text: str) -> int:
        encoding = self._original.encoding or "utf-8"
        self._writer.write(text.encode(encoding, "backslashreplace"))
        return len(text)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._original.isatty()

    def fileno(self) -> int:
        return self._original.fileno()
