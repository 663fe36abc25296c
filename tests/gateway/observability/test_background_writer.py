"""Nobody waits for whoever reads the log."""

import errno
import io
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import cast

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.observability.background_writer import (
    MAX_PENDING_BYTES,
    BackgroundWriter,
    stderr_in_background,
)
from gateway.observability.log import configure_logging
from gateway.settings.schema import LogSettings
from runtime.supervisor.engine_output import forward
from tests.kit.serving import PATIENCE, wait_for

LINE = b"x" * 99 + b"\n"


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    structlog.reset_defaults()
    root.handlers = handlers
    root.setLevel(level)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end nobody is in a hurry: on a busy machine the writer may take long to be awake."""
    monkeypatch.setattr("gateway.observability.background_writer.LAST_WORDS_SECONDS", PATIENCE)


class Reader:
    """A pipe, and one who reads it only when told."""

    def __init__(self) -> None:
        self._descriptor, writing = os.pipe()
        self.stream = open(writing, "w", encoding="utf-8")  # noqa: SIM115
        self._thread = threading.Thread(target=self._read)
        self._received = b""

    def _read(self) -> None:
        while data := os.read(self._descriptor, 65_536):
            self._received += data

    def read_on(self) -> None:
        self._thread.start()

    def everything(self) -> bytes:
        """All that was written, after its end."""
        self.stream.close()
        self._thread.join()
        os.close(self._descriptor)
        return self._received


def test_what_nobody_reads_is_dropped_and_counted_and_reported_once():
    reader = Reader()
    reports: list[int] = []
    writer = BackgroundWriter(reader.stream, on_recovery=reports.append)
    num_lines = 2 * MAX_PENDING_BYTES // len(LINE)
    for _ in range(num_lines):
        writer.write(LINE)
    assert not writer.flush(0.01)
    assert 0 < writer.num_lost < num_lines
    reader.read_on()
    assert writer.flush(PATIENCE)
    writer.write(b"last\n")
    assert writer.flush(PATIENCE)
    received = reader.everything().splitlines(keepends=True)
    assert received == [LINE] * (num_lines - writer.num_lost) + [b"last\n"]
    assert reports == [writer.num_lost]


def test_a_line_that_is_longer_than_all_that_may_wait_is_written():
    reader = Reader()
    reader.read_on()
    writer = BackgroundWriter(reader.stream)
    huge = b"y" * (3 * MAX_PENDING_BYTES) + b"\n"
    writer.write(huge)
    assert writer.flush(PATIENCE)
    assert (reader.everything(), writer.num_lost) == (huge, 0)


@given(st.lists(st.binary(max_size=300), max_size=60))
@settings(max_examples=30, deadline=None)
def test_all_arrives_in_its_order_while_it_is_read(texts: list[bytes]):
    reader = Reader()
    reader.read_on()
    writer = BackgroundWriter(reader.stream)
    for text in texts:
        writer.write(text)
    assert writer.flush(PATIENCE)
    assert reader.everything() == b"".join(texts)


def test_a_pipe_that_somebody_made_non_blocking_loses_nothing():
    reader = Reader()
    os.set_blocking(reader.stream.fileno(), False)
    writer = BackgroundWriter(reader.stream)
    for _ in range(2000):
        writer.write(LINE)
    assert not writer.flush(0.01)
    reader.read_on()
    assert writer.flush(PATIENCE)
    assert reader.everything() == LINE * 2000


class FullDisk(io.StringIO):
    """Takes nothing as long as it is full."""

    is_full = True

    def write(self, text: str) -> int:
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)


def test_lines_for_a_full_disk_are_counted_and_nothing_else(monkeypatch: pytest.MonkeyPatch):
    """Not a traceback for each, which would fill what becomes free."""
    disk = FullDisk()
    monkeypatch.setattr(sys, "stderr", disk)
    with stderr_in_background() as writer:
        configure_logging(LogSettings(format="json"))
        log = structlog.get_logger()
        for number in range(5):
            log.info("lost", number=number)
        writer.flush(PATIENCE)
        disk.is_full = False
        log.info("first")
        wait_for(lambda: "log_lines_lost" in disk.getvalue())
        log.info("second")

    written = [json.loads(line) for line in disk.getvalue().splitlines()]

    assert [line["event"] for line in written] == ["first", "log_lines_lost", "second"]
    assert written[1]["num_lines"] == 5
    assert writer.num_lost == 5
    assert sys.stderr is cast(object, disk)


def test_everything_that_goes_to_stderr_goes_through_it(monkeypatch: pytest.MonkeyPatch):
    reader = Reader()
    monkeypatch.setattr(sys, "stderr", reader.stream)
    with stderr_in_background():
        print("a print, with ü", file=sys.stderr)
        logging.StreamHandler().emit(logging.makeLogRecord({"msg": "a handler"}))
        assert not sys.stderr.isatty()
        assert sys.stderr.fileno() == reader.stream.fileno()
    reader.read_on()
    assert reader.everything().decode().splitlines() == ["a print, with ü", "a handler"]


def test_an_engine_that_writes_without_end_waits_for_nobody_and_its_lines_stay_whole():
    program = "import sys; [print('z' * 50) for _ in range(50_000)]; print('end', file=sys.stderr)"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    reader = Reader()
    writer = BackgroundWriter(reader.stream)
    pieces: list[None] = []
    num_lines: list[int] = []

    def write(data: bytes) -> None:
        writer.write(data)
        num_lines.append(data.count(b"\n"))

    forward(process, write, lambda: pieces.append(None))
    assert process.wait(3 * PATIENCE) == 0
    wait_for(lambda: sum(num_lines) == 50_001)
    assert writer.num_lost > 0
    reader.read_on()
    assert writer.flush(PATIENCE)
    assert set(reader.everything().splitlines()) <= {b"z" * 50, b"end"}
    assert pieces
    assert process.stdout is not None
    process.stdout.close()
