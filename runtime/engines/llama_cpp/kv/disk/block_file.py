"""A block as a file: a header, keys and values, and a checksum over both.

The file does not name its tokens: its key, a hash, stands for them.
"""

import contextlib
import hashlib
import os
import struct
import threading
from pathlib import Path

from runtime.engines.llama_cpp.kv.disk.names import UNFINISHED

_MAGIC = b"lockgate block 1"
_HEADER = struct.Struct("<16s32sQ")
_CHECKSUM_BYTES = 32


def write_block(path: Path, key: bytes, data: bytes) -> int:
    """Write a block, in one step for all who read it, so that nobody but this user may read it.
    Returns the size of the file in bytes. Raises OSError, and leaves nothing then."""
    header = _HEADER.pack(_MAGIC, key, len(data))
    pieces = (header, data, _checksum(header, data))
    new = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}{UNFINISHED}")
    try:
        with open(new, "wb", opener=_open_private) as file:
            for piece in pieces:
                file.write(piece)
        os.replace(new, path)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise
    return sum(map(len, pieces))


def read_block(path: Path, key: bytes) -> bytes | None:
    """The keys and values in a file; None if it is not, to the last bit, what was written under
    this key. Raises OSError."""
    content = path.read_bytes()
    end = len(content) - _CHECKSUM_BYTES
    header, data = content[: _HEADER.size], content[_HEADER.size : max(end, 0)]
    if header != _HEADER.pack(_MAGIC, key, len(data)):
        return None
    return data if content[end:] == _checksum(header, data) else None


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _checksum(header: bytes, data: bytes) -> bytes:
    digest = hashlib.blake2b(header, digest_size=_CHECKSUM_BYTES)
    digest.update(data)
    return digest.digest()
