"""What does a hostile request cost the other clients, and the server's memory?

    scripts/bench attacks
    scripts/bench attacks --only word --tokenizer ""

One client streams from the scripted engine at 10 ms a token, and asks for the next answer at once;
another asks /health/live twenty times a second. `gap` is the longest silence of the stream from the
beginning of an attack until it is over, `live` the longest time of /health/live meanwhile. The
memory is that of the gateway process: before, at its highest, and two seconds after. A process of
its own sends the attacks. Before each of them the same is measured while nobody attacks: this is
the control, whose longest times say what the machine itself does to the two clients.

The exit status is 1 when an attack misses a target: a gap of 50 ms, 100 ms for /health/live (or the
control's longest times, where these are longer), and a memory afterwards that is at most a fifth
above that of the beginning.
"""

import argparse
import asyncio
import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from attacker import Attacker
from attacks import names_of_attacks
from bench_frontend import DEFAULT_TOKENIZER
from machine import machine
from report import write_json
from rich.console import Console
from rich.table import Table
from server import RunningServer, gateway
from wire import HOST, connect, new_event_loop, post

STEP_SECONDS = 0.010
SETTLE_SECONDS = 2.0
CONTROL_SECONDS = 1.0
WARM_UP_SECONDS = 3.0
MAX_GAP_MS = 50.0
MAX_LIVE_MS = 100.0
MAX_GROWTH = 1.2
CONTROL = "nobody attacks"
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


async def measure(
    server: RunningServer, attacker: Attacker, name: str, stream: Stream, gaps: Watch
) -> Result:
    """What the attack of that name does; without a name, what it is like without one."""
    live, memory = Watch(), Watch()
    before = server.memory_bytes()
    if name:
        await attacker.prepare(server.model, name)
    with running(watch_live(server.port, live), watch_memory(server, memory)):
        gaps.reset()
        started = time.perf_counter()
        status = await attacker.send(server.port) if name else ""
        seconds = time.perf_counter() - started
        await asyncio.sleep(SETTLE_SECONDS if name else CONTROL_SECONDS)
        gaps.note(stream.silence())
    return Result(
        name or CONTROL,
        status,
        seconds,
        gaps.longest * 1e3,
        live.longest * 1e3,
        before / 1e6,
        memory.longest / 1e6,
        server.memory_bytes() / 1e6,
    )


async def run(server: RunningServer, only: str, console: Console) -> list[Result]:
    """The control first, and then all attacks."""
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
    await asyncio.sleep(WARM_UP_SECONDS)
    attacker = Attacker()
    controls, results = [], []
    for name in names_of_attacks(only):
        controls.append(await measure(server, attacker, "", stream, gaps))
        result = await measure(server, attacker, name, stream, gaps)
        console.print(f"{result.attack:40} {result.status:12} {result.gap_ms:8.0f} ms")
        results.append(result)
    attacker.close()
    stream.close()
    return [longest_of(controls), *results]


def longest_of(controls: list[Result]) -> Result:
    """All controls as one: the longest of their times, the memory at the beginning."""
    gap_ms = max(control.gap_ms for control in controls)
    live_ms = max(control.live_ms for control in controls)
    return replace(controls[0], gap_ms=gap_ms, live_ms=live_ms)


def missed(results: list[Result]) -> list[str]:
    """The targets that attacks have missed, a sentence each."""
    control, *attacks = results
    bounds = {
        "gap_ms": max(MAX_GAP_MS, control.gap_ms),
        "live_ms": max(MAX_LIVE_MS, control.live_ms),
        "after_mb": MAX_GROWTH * control.before_mb,
    }
    return [
        f"{attack.attack}: {name} is {value:.0f}, the target {bound:.0f}"
        for attack in attacks
        for name, bound in bounds.items()
        if (value := getattr(attack, name)) > bound
    ]


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
    for sentence in (sentences := missed(results)):
        console.print(f"missed: {sentence}")
    sys.exit(bool(sentences))


if __name__ == "__main__":
    main()
