"""What an engine process was working on, for whoever asks after its death.

A plain file: what has been written to it outlives the process however that ends, which a message
in a socket's buffer does not.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

FILE_NAME = "working-on"


class FlightRecorder:
    """Written by the engine process each time when it takes something up: a few microseconds. A
    full disk costs the record, and not the engine."""

    def __init__(self, path: str) -> None:
        self._file = Path(path).open("wb", buffering=0)  # noqa: SIM115 -- until `close`
        self.write([])

    def write(self, request_ids: Sequence[str]) -> None:
        """These are being worked on from now on, and perhaps no longer some of them."""
        encoded = msgspec.msgpack.encode(request_ids)
        record = len(encoded).to_bytes(4, "big") + encoded
        try:
            self._file.seek(0)
            self._file.write(record)  # on a disk that gets full, perhaps a part: nobody reads that
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(0)  # not known, which is better than what was true before

    def close(self) -> None:
        self._file.close()


def read_record(path: Path) -> list[str] | None:
    """What was written last; None where it cannot be read, or ends in the middle of a write."""
    try:
        content = path.read_bytes()
        size = int.from_bytes(content[:4], "big")
        return msgspec.msgpack.decode(content[4 : 4 + size], type=list[str])
    except (OSError, msgspec.DecodeError):
        return None
