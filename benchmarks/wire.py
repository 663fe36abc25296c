"""HTTP/1.1 on bare sockets of the event loop, to 127.0.0.1 only.

While a reply comes in, only its pieces and the times at which they came are kept, so that the
client is not what is measured. The reply is taken apart after its end.
"""

import asyncio
import itertools
import json
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Any, cast

HOST = "127.0.0.1"
LAST_CHUNK = b"0\r\n\r\n"


class BadReply(Exception):
    """A reply that is not what was asked for; the message says how."""


class RawReply:
    """A reply as it came: its pieces and when each was there, on the clock of `perf_counter`."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.times: list[float] = []
        self._missing: int | None = None  # bytes, where the length was announced
        self._has_head = False

    def add(self, data: bytes) -> bool:
        """Take a piece in. True at the end of the reply."""
        self.pieces.append(data)
        self.times.append(time.perf_counter())
        if not self._has_head:
            return self._read_head()
        if self._missing is None:
            # no event ends in these five bytes; a piece shorter than them needs the one before
            return (self.pieces[-2][-5:] + data if len(data) < 5 else data).endswith(LAST_CHUNK)
        self._missing -= len(data)
        return self._missing <= 0

    def joined(self) -> bytes:
        return b"".join(self.pieces)

    def _read_head(self) -> bool:
        head, separator, rest = self.joined().partition(b"\r\n\r\n")
        if not separator:
            return False
        self._has_head = True
        length = header(head, b"content-length")
        if length is None:
            return rest.endswith(LAST_CHUNK)
        self._missing = int(length) - len(rest)
        return self._missing <= 0


class Connection(asyncio.Protocol):
    """One connection, one exchange at a time."""

    def __init__(self) -> None:
        self.is_closed = False
        self._raw = RawReply()
        self._done: asyncio.Future[None] | None = None
        self._on_text: Callable[[], None] | None = None

    async def exchange(self, request: bytes, on_text: Callable[[], None] | None = None) -> RawReply:
        """Send a request and wait for the whole reply. Raises BadReply when it is cut off.

        `on_text` is called once, as soon as the reply has text.
        """
        self._raw = RawReply()
        self._on_text = on_text
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        await self._done
        return self._raw

    def send(self, data: bytes) -> None:
        """Send more of the request that `exchange` has begun, unless the connection is closed."""
        if not self.is_closed:
            self._transport.write(data)

    def close(self) -> None:
        self.is_closed = True
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        is_whole = self._raw.add(data)
        if self._on_text is not None and first_text(data) >= 0:
            self._on_text()
            self._on_text = None
        if is_whole and self._done is not None and not self._done.done():
            self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        if self._done is not None and not self._done.done():
            self._done.set_exception(BadReply("the server closed the connection in mid-reply"))


async def connect(port: int) -> Connection:
    """Open a connection to a port of this machine."""
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, HOST, port)
    return connection


def new_event_loop() -> asyncio.AbstractEventLoop:
    """The lightest event loop there is."""
    try:
        import uvloop
    except ImportError:  # Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def post(path: str, document: dict[str, Any]) -> bytes:
    """A POST as it goes down the socket."""
    body = json.dumps(document).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def read_body(joined: bytes) -> bytes:
    """The body of a whole reply. Raises BadReply where its status is not 200."""
    head, _, rest = joined.partition(b"\r\n\r\n")
    body = b"".join(data for _, data in _chunks(rest)) if _is_chunked(head) else rest
    status = head.split(b" ", 2)[1]
    if status != b"200":
        raise BadReply(f"status {status.decode()}: {body[:200]!r}")
    return body


def split_events(body: bytes) -> list[bytes]:
    """All events of a stream with data, its proper end checked and left out."""
    blocks = [block for block in body.split(b"\n\n") if not block.startswith(b":")]
    if bad := [block for block in blocks if block.startswith((b'data: {"error"', *_ERRORS))]:
        raise BadReply(f"an error in mid-stream: {bad[0][:300]!r}")
    events = [block for block in blocks if block.startswith(b"data: ")]
    if not events or events[-1] != b"data: [DONE]":
        raise BadReply(f"the stream does not end in [DONE]: {body[-200:]!r}")
    return events[:-1]


_ERRORS = (b"event: error", b"error:")


def timed_events(raw: RawReply) -> list[tuple[float, bytes]]:
    """Like `split_events`, each event with the time at which the last of it was there."""
    joined = raw.joined()
    split_events(read_body(joined))  # raises where the stream is not a good one
    events = [timed for timed in _end_times(raw, joined) if timed[1].startswith(b"data: ")]
    return events[:-1]


def _end_times(raw: RawReply, joined: bytes) -> Iterator[tuple[float, bytes]]:
    """Everything in the body that a blank line ends, and when that line was there."""
    ends = list(itertools.accumulate(len(piece) for piece in raw.pieces))
    head, _, rest = joined.partition(b"\r\n\r\n")
    start = len(head) + 4
    chunks = _chunks(rest) if _is_chunked(head) else [(len(rest), rest)]
    pending = b""
    for end, data in chunks:
        *blocks, pending = (pending + data).split(b"\n\n")
        for block in blocks:
            yield raw.times[bisect_left(ends, start + end)], block


def time_of_first_text(raw: RawReply, joined: bytes) -> float:
    """When the first text of a stream was there."""
    position = first_text(joined)
    if position < 0:
        raise BadReply("the stream has no text")
    ends = list(itertools.accumulate(len(piece) for piece in raw.pieces))
    return raw.times[bisect_left(ends, position + 1)]


def first_text(data: bytes) -> int:
    """Where the first `content` or `text` begins that is neither empty nor null; -1 for nowhere."""
    found = [
        position
        for mark in (b'"content":"', b'"text":"')
        if (position := _not_empty(data, mark)) >= 0
    ]
    return min(found, default=-1)


def _not_empty(data: bytes, mark: bytes) -> int:
    position = data.find(mark)
    while position >= 0 and data[position + len(mark) : position + len(mark) + 1] == b'"':
        position = data.find(mark, position + len(mark))
    return position


def _is_chunked(head: bytes) -> bool:
    return header(head, b"transfer-encoding") == b"chunked"


def _chunks(rest: bytes) -> Iterator[tuple[int, bytes]]:
    """The data of each chunk, and where in `rest` it ends."""
    position = 0
    while True:
        start = rest.index(b"\r\n", position) + 2
        size = int(rest[position : start - 2].split(b";")[0], 16)
        if size == 0:
            return
        yield start + size, rest[start : start + size]
        position = start + size + 2


def header(head: bytes, name: bytes) -> bytes | None:
    """A header's value in lower case."""
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip().lower()
    return None
