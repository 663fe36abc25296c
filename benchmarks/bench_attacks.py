"""What does a hostile request cost the other clients, and the server's memory?

    scripts/bench attacks
    scripts/bench attacks --only word --tokenizer ""

One client streams from the scripted engine at 10 ms a token, and asks for the next answer at once;
another asks /health/live twenty times a second. `gap` is the longest silence of the stream from the
beginning of an attack until it is over, `live` the longest time of /health/live meanwhile, `lag`
the longest time that the server itself says its event loop was held. The memory is that of the
gateway process: before, at its highest, and two seconds after.
"""

import argparse
import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, cast

from attacks import Attack, attacks
from bench_frontend import DEFAULT_TOKENIZER
from machine import machine
from report import write_json
from rich.console import Console
from rich.table import Table
from server import RunningServer, gateway
from wire import HOST, connect, new_event_loop, post

STEP_SECONDS = 0.010
PATIENCE = 120.0
SETTLE_SECONDS = 2.0
UPLOAD_SECONDS = 5.0
SETTINGS = {"engine.scripted.step_ms": "10", "log.level": "error", "log.access": "false"}
GET_LIVE = f"GET /health/live HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode()


@dataclass(frozen=True)
class Result:
    """Times in milliseconds, memory in megabytes."""

    attack: str
    status: str
    seconds: float
    gap_ms: float
    live_ms: float
    before_mb: float
    peak_mb: float
    after_mb: float


class Watch:
    """The longest of some times since `reset`."""

    def __init__(self) -> None:
        self.longest = 0.0

    def note(self, value: float) -> None:
        self.longest = max(self.longest, value)

    def reset(self) -> None:
        self.longest = 0.0


class Stream(asyncio.Protocol):
    """A client that reads one stream after another and notes the times between its pieces."""

    def __init__(self, request: bytes, gaps: Watch) -> None:
        self._request = request
        self._gaps = gaps

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self._gaps.note(now - self._last)
        self._last = now
        if data.endswith(b"0\r\n\r\n"):
            self._ask()

    def close(self) -> None:
        self._transport.close()

    def silence(self) -> float:
        """Seconds since the last piece."""
        return time.perf_counter() - self._last

    def _ask(self) -> None:
        self._last = time.perf_counter()
        self._transport.write(self._request)


async def watch_live(port: int, times: Watch) -> None:
    connection = await connect(port)
    while True:
        started = time.perf_counter()
        await connection.exchange(GET_LIVE)
        times.note(time.perf_counter() - started)
        await asyncio.sleep(0.05)


async def watch_memory(server: RunningServer, sizes: Watch) -> None:
    while True:
        sizes.note(server.memory_bytes())
        await asyncio.sleep(0.02)


@contextlib.contextmanager
def running(*works: Any) -> Iterator[None]:
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


async def send(server: RunningServer, attack: Attack) -> str:
    """Sends an attack from its connections. Returns the statuses of the answers."""
    clients = [one_client(server, attack) for _ in range(attack.connections)]
    statuses = await asyncio.gather(*clients)
    return " ".join(f"{status}×{statuses.count(status)}" for status in sorted(set(statuses)))


async def one_client(server: RunningServer, attack: Attack) -> str:
    if attack.leaves:
        await asyncio.wait_for(send_and_leave(server.port, attack.sent), PATIENCE)
        return "left"
    connection = await connect(server.port)
    try:
        patience = UPLOAD_SECONDS if attack.connections > 50 else PATIENCE
        reply = await asyncio.wait_for(connection.exchange(attack.sent), patience)
        return reply.joined().split(b" ", 2)[1].decode()
    except TimeoutError:
        return "none"
    except Exception as error:  # the server may close: that is an answer too
        return type(error).__name__
    finally:
        connection.close()


async def send_and_leave(port: int, data: bytes) -> None:
    """Sends without waiting for an answer."""
    _, writer = await asyncio.open_connection(HOST, port)
    writer.transport.set_write_buffer_limits(0)  # all of it is on its way before `drain` returns
    writer.write(data)
    await writer.drain()
    writer.close()


async def measure(server: RunningServer, attack: Attack, stream: Stream, gaps: Watch) -> Result:
    live, memory = Watch(), Watch()
    before = server.memory_bytes()
    gaps.reset()
    with running(watch_live(server.port, live), watch_memory(server, memory)):
        await asyncio.sleep(0.2)
        gaps.reset()
        started = time.perf_counter()
        status = await send(server, attack)
        seconds = time.perf_counter() - started
        await asyncio.sleep(SETTLE_SECONDS)
        gaps.note(stream.silence())
    return Result(
        attack.name,
        status,
        seconds,
        gaps.longest * 1e3,
        live.longest * 1e3,
        before / 1e6,
        memory.longest / 1e6,
        server.memory_bytes() / 1e6,
    )


async def run(server: RunningServer, only: str, console: Console) -> list[Result]:
    request = {
        "model": server.model,
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 1000,
        "stream": True,
    }
    gaps = Watch()
    stream = Stream(post("/v1/chat/completions", request), gaps)
    loop = asyncio.get_running_loop()
    await loop.create_connection(lambda: stream, HOST, server.port)
    results = []
    for attack in attacks(server.model, only):
        result = await measure(server, attack, stream, gaps)
        console.print(f"{result.attack:40} {result.status:12} {result.gap_ms:8.0f} ms")
        results.append(result)
    stream.close()
    return results


def table_of(results: list[Result]) -> Table:
    table = Table("attack", "status", "s", "gap ms", "live ms", "MB before", "peak", "after")
    for column in table.columns[2:]:
        column.justify = "right"
    for result in results:
        numbers = (result.gap_ms, result.live_ms, result.before_mb, result.peak_mb, result.after_mb)
        shown = [f"{number:,.0f}" for number in numbers]
        table.add_row(result.attack, result.status, f"{result.seconds:.1f}", *shown)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokenizer", default=DEFAULT_TOKENIZER, metavar="NAME_OR_PATH")
    parser.add_argument("--only", default="", metavar="PART_OF_A_NAME")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    console = Console()
    settings = {"model.tokenizer": arguments.tokenizer, **SETTINGS}
    settings |= dict(each.split("=", 1) for each in arguments.set)
    loop = new_event_loop()
    try:
        with gateway(settings) as server:
            results = loop.run_until_complete(run(server, arguments.only, console))
    finally:
        loop.close()
    console.print(table_of(results))
    document = {"machine": machine(), "results": [asdict(result) for result in results]}
    write_json("attacks", document)


if __name__ == "__main__":
    main()
