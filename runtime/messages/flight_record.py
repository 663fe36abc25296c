"""Records the requests that an engine process works on, to be read after its death.

The record is a plain file: its content survives any end of the process, unlike a message in a
socket's buffer.
"""

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

FILE_NAME = "working-on"


class FlightRecorder:
    """The engine process writes the record each time it starts on a request, which takes a few
    microseconds. On a full disk the record is lost, but the engine continues."""

    def __init__(self, path: str) -> None:
        self._folder = Path(path).parent
        self._file = Path(path).open("wb", buffering=0)  # noqa: SIM115 -- until `close`
        self.write([])

    def write(self, request_ids: Sequence[str]) -> None:
        """Record the requests being worked on. Some may have ended when the record is read."""
        encoded = msgspec.msgpack.encode(request_ids)
        record = len(encoded).to_bytes(4, "big") + encoded
        if self._file.closed:
            return
        try:
            self._file.seek(0)
            self._file.write(record)  # a partial write on a full disk reads as None
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(0)  # an unknown state is better than an old one

    def close(self) -> None:
        self._file.close()

    def remove_folder(self) -> None:
        """Close the record, because Windows keeps files that are open, and remove its folder. For
        the end of the process: other threads may still write, which then does nothing."""
        self.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def read_record(path: Path) -> list[str] | None:
    """The last record; None when it cannot be read or is incomplete."""
    try:
        content = path.read_bytes()
        size = int.from_bytes(content[:4], "big")
        return msgspec.msgpack.decode(content[4 : 4 + size], type=list[str])
    except (OSError, msgspec.DecodeError):
        return None
