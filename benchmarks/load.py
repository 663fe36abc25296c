"""Many requests of one kind to one server, as fast as the connections take them.

A reply is taken apart after its end: headers, chunks, events, tokens. Where a request depends on
the answer to an earlier one, see `sessions`.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from wire import (
    BadReply,
    Connection,
    RawReply,
    connect,
    first_text,
    new_event_loop,
    post,
    read_body,
    split_events,
    time_of_first_text,
)

MAX_REQUESTS = 100_000


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
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(_load(port, call, num_requests, concurrency, timeout))


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
    connection: Connection | None = None
    try:
        for number in numbers:
            try:
                if connection is None or connection.is_closed:
                    connection = await connect(port)
                    result.connections += 1
                started = time.perf_counter()
                raw = await connection.exchange(post(call.path, call.body(number)))
                result.replies.append(_read(raw, started, call))
            except (OSError, BadReply) as error:
                result.failures.append(str(error) or type(error).__name__)
                if connection is not None:
                    connection.close()
                    connection = None
    finally:
        if connection is not None:
            connection.close()


def _read(raw: RawReply, started: float, call: Call) -> Reply:
    reply = _read_reply(raw, started, stream=call.stream)
    if reply.completion_tokens != call.max_tokens:
        raise BadReply(f"{reply.completion_tokens} tokens instead of {call.max_tokens}")
    return reply


def _read_reply(raw: RawReply, started: float, *, stream: bool) -> Reply:
    joined = raw.joined()
    body = read_body(joined)
    elapsed = raw.times[-1] - started
    if not stream:
        prompt_tokens, completion_tokens = _usage(json.loads(body))
        return Reply(prompt_tokens, completion_tokens, 0, elapsed, 0.0)
    events = split_events(body)
    prompt_tokens, completion_tokens = _count_tokens(events)
    ttft = time_of_first_text(raw, joined) - started
    tpot = (elapsed - ttft) / max(completion_tokens - 1, 1)
    num_texts = sum(first_text(event) >= 0 for event in events)
    return Reply(prompt_tokens, completion_tokens, num_texts, ttft, tpot)


def _count_tokens(events: list[bytes]) -> tuple[int, int]:
    """Tokens of prompt and answer: by `usage`, or, where there is none, one an event with text."""
    for event in events[:-3:-1]:
        chunk = json.loads(event[6:])
        if chunk.get("usage"):
            return _usage(chunk)
    return 0, sum(first_text(event) >= 0 for event in events)


def _usage(document: dict[str, Any]) -> tuple[int, int]:
    usage = document["usage"]
    return usage["prompt_tokens"], usage["completion_tokens"]
