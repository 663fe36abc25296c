"""A light HTTP/1.1 client for load: bare sockets on the event loop, to 127.0.0.1 only.

It must not be what is measured, so while a reply comes in it only keeps the pieces and the times at
which they came. The reply is taken apart after its end: headers, chunks, events, tokens.
"""

import asyncio
import itertools
import json
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

HOST = "127.0.0.1"
LAST_CHUNK = b"0\r\n\r\n"
MAX_REQUESTS = 100_000


class BadReply(Exception):
    """A reply that is not what was asked for; the message says how."""


@dataclass(frozen=True)
class Call:
    """Requests to one endpoint. `body` makes the JSON body of the i-th request; every answer has
    to be `max_tokens` long."""

    path: str
    body: Callable[[int], dict[str, Any]]
    stream: bool
    max_tokens: int


@dataclass(frozen=True)
class Reply:
    """One good reply. Times in seconds; `tpot` is the mean gap between tokens after the first.

    `events` counts events with text: fewer than tokens where the server joins tokens.
    """

    prompt_tokens: int
    completion_tokens: int
    events: int
    ttft: float
    tpot: float


@dataclass
class LoadResult:
    """What one load found. `connections` counts those that were opened."""

    replies: list[Reply] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    connections: int = 0
    seconds: float = 0.0

    @property
    def num_tokens(self) -> int:
        return sum(reply.completion_tokens for reply in self.replies)

    @property
    def num_events(self) -> int:
        return sum(reply.events for reply in self.replies)

    @property
    def num_sent_whole(self) -> int:
        """Streams of several tokens whose text came in a single event: they did not stream."""
        return sum(reply.events == 1 < reply.completion_tokens for reply in self.replies)


def run_load(
    port: int, call: Call, *, num_requests: int, concurrency: int, timeout: float = 120.0
) -> LoadResult:
    """Send `num_requests` requests over `concurrency` connections that stay open.

    Each connection sends its next request when the reply to the last one is complete. After
    `timeout` seconds what is missing counts as failed.
    """
    assert 1 <= concurrency <= num_requests <= MAX_REQUESTS, "a load has bounds"
    with asyncio.Runner(loop_factory=_new_event_loop) as runner:
        return runner.run(_load(port, call, num_requests, concurrency, timeout))


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _load(
    port: int, call: Call, num_requests: int, concurrency: int, seconds: float
) -> LoadResult:
    result = LoadResult()
    numbers = iter(range(num_requests))
    clients = [_client(port, call, numbers, result) for _ in range(concurrency)]
    started = time.perf_counter()
    try:
        async with asyncio.timeout(seconds):
            await asyncio.gather(*clients)
    except TimeoutError:
        missing = num_requests - len(result.replies) - len(result.failures)
        result.failures += [f"no reply within {seconds:g} s"] * missing
    result.seconds = time.perf_counter() - started
    return result


async def _client(port: int, call: Call, numbers: Iterator[int], result: LoadResult) -> None:
    connection: _Connection | None = None
    try:
        for number in numbers:
            try:
                if connection is None or connection.is_closed:
                    connection = await _connect(port)
                    result.connections += 1
                started = time.perf_counter()
                raw = await connection.exchange(_request(call, number))
                result.replies.append(_read(raw, started, call))
            except (OSError, BadReply) as error:
                result.failures.append(str(error) or type(error).__name__)
                if connection is not None:
                    connection.close()
                    connection = None
    finally:
        if connection is not None:
            connection.close()


async def _connect(port: int) -> "_Connection":
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(_Connection, HOST, port)
    return connection


def _request(call: Call, number: int) -> bytes:
    body = json.dumps(call.body(number)).encode()
    head = (
        f"POST {call.path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Raw:
    """A reply as it came: its pieces and when each was there."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.times: list[float] = []
        self.missing: int | None = None  # bytes, where the length was announced
        self.has_head = False

    def add(self, data: bytes) -> bool:
        """Take a piece in. True at the end of the reply."""
        self.pieces.append(data)
        self.times.append(time.perf_counter())
        if not self.has_head:
            return self._read_head()
        if self.missing is None:
            # no event ends in these five bytes; a piece shorter than them needs the one before
            return (self.pieces[-2][-5:] + data if len(data) < 5 else data).endswith(LAST_CHUNK)
        self.missing -= len(data)
        return self.missing <= 0

    def _read_head(self) -> bool:
        joined = b"".join(self.pieces)
        head, separator, rest = joined.partition(b"\r\n\r\n")
        if not separator:
            return False
        self.has_head = True
        length = _header(head, b"content-length")
        if length is None:
            return rest.endswith(LAST_CHUNK)
        self.missing = int(length) - len(rest)
        return self.missing <= 0


class _Connection(asyncio.Protocol):
    """One connection, one exchange at a time."""

    def __init__(self) -> None:
        self.is_closed = False
        self._raw = _Raw()
        self._done: asyncio.Future[None] | None = None

    async def exchange(self, request: bytes) -> _Raw:
        """Send a request and wait for the whole reply. Raises BadReply when it is cut off."""
        self._raw = _Raw()
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        await self._done
        return self._raw

    def close(self) -> None:
        self.is_closed = True
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._raw.add(data) and self._done is not None and not self._done.done():
            self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        if self._done is not None and not self._done.done():
            self._done.set_exception(BadReply("the server closed the connection in mid-reply"))


def _read(raw: _Raw, started: float, call: Call) -> Reply:
    reply = _read_reply(raw, started, stream=call.stream)
    if reply.completion_tokens != call.max_tokens:
        raise BadReply(f"{reply.completion_tokens} tokens instead of {call.max_tokens}")
    return reply


def _read_reply(raw: _Raw, started: float, *, stream: bool) -> Reply:
    joined = b"".join(raw.pieces)
    head, _, rest = joined.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1]
    chunked = _header(head, b"transfer-encoding") == b"chunked"
    body = _unchunk(rest) if chunked else rest
    if status != b"200":
        raise BadReply(f"status {status.decode()}: {body[:200]!r}")
    elapsed = raw.times[-1] - started
    if not stream:
        prompt_tokens, completion_tokens = _usage(json.loads(body))
        return Reply(prompt_tokens, completion_tokens, 0, elapsed, 0.0)
    events = _events(body)
    prompt_tokens, completion_tokens = _count_tokens(events)
    ttft = _time_of_first_text(raw, joined) - started
    tpot = (elapsed - ttft) / max(completion_tokens - 1, 1)
    num_texts = sum(_first_text(event) >= 0 for event in events)
    return Reply(prompt_tokens, completion_tokens, num_texts, ttft, tpot)


def _events(body: bytes) -> list[bytes]:
    """All events of a stream, its proper end checked and left out."""
    events = [event for event in body.split(b"\n\n") if event.startswith(b"data: ")]
    if not events or events[-1] != b"data: [DONE]":
        raise BadReply(f"the stream does not end in [DONE]: {body[-200:]!r}")
    if b'"error"' in body:
        raise BadReply(f"an error in mid-stream: {body[-300:]!r}")
    return events[:-1]


def _count_tokens(events: list[bytes]) -> tuple[int, int]:
    """Tokens of prompt and answer: by `usage`, or, where there is none, one an event with text."""
    for event in events[:-3:-1]:
        chunk = json.loads(event[6:])
        if chunk.get("usage"):
            return _usage(chunk)
    return 0, sum(_first_text(event) >= 0 for event in events)


def _usage(document: dict[str, Any]) -> tuple[int, int]:
    usage = document["usage"]
    return usage["prompt_tokens"], usage["completion_tokens"]


def _time_of_first_text(raw: _Raw, joined: bytes) -> float:
    position = _first_text(joined)
    if position < 0:
        raise BadReply("the stream has no text")
    ends = list(itertools.accumulate(len(piece) for piece in raw.pieces))
    return raw.times[bisect_left(ends, position + 1)]


def _first_text(data: bytes) -> int:
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


def _unchunk(rest: bytes) -> bytes:
    parts: list[bytes] = []
    position = 0
    while True:
        end = rest.index(b"\r\n", position)
        size = int(rest[position:end].split(b";")[0], 16)
        if size == 0:
            return b"".join(parts)
        parts.append(rest[end + 2 : end + 2 + size])
        position = end + size + 4


def _header(head: bytes, name: bytes) -> bytes | None:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip().lower()
    return None
