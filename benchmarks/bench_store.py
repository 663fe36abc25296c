"""What does storing answers cost the streams, and how many short ones are stored a second?

    scripts/bench store
    scripts/bench store --rounds 3 --only streams

The same streams with `store: true` and without, on one server and in turn: times to the first
token, gaps, and CPU time of the gateway for each token, which includes the thread that writes. Then
short answers one after another over many connections. A list that asks for one stored answer waits
until all before it are on the disk: how long, says how much waits to be written. In the end every
answer that was accepted has to be in the list. The scripted engine answers.
"""

import argparse
import asyncio
import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machine import machine
from report import report, write_json
from server import RunningServer, gateway
from stats import median, percentile
from wire import (
    HOST,
    Connection,
    connect,
    first_text,
    new_event_loop,
    post,
    read_body,
    timed_events,
)
from words import Words

CHAT = "/v1/chat/completions"
STREAM_TOKENS = 256
NUM_STREAMS = 32
SHORT_CONCURRENCY = 32
LOOK_SECONDS = 0.2
PARTS = ("streams", "paced", "short")
STEP_MS = {"streams": "0", "paced": "10", "short": "0"}
"""The engine's pace: as fast as it can, or like a GPU's."""


@dataclass
class Load:
    """Times of one load in seconds; `waits` are those of lists."""

    ttft: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    num_tokens: int = 0


def body(model: str, number: int, *, stored: bool, stream: bool) -> dict[str, Any]:
    content = f"{number} {Words(str(number)).take(32)}"
    fields: dict[str, Any] = {"stream": True} if stream else {}
    if stored:
        fields |= {"store": True, "metadata": {"run": "bench", "number": str(number)}}
    return {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": STREAM_TOKENS if stream else 1,
        **fields,
    }


async def ask_stream(connection: Connection, document: dict[str, Any], load: Load) -> None:
    started = time.perf_counter()
    raw = await connection.exchange(post(CHAT, document))
    times = [at for at, event in timed_events(raw) if first_text(event) >= 0]
    load.ttft.append(times[0] - started)
    load.gaps += [after - before for before, after in itertools.pairwise(times)]
    load.num_tokens += STREAM_TOKENS


async def ask_short(connection: Connection, document: dict[str, Any], load: Load) -> None:
    raw = await connection.exchange(post(CHAT, document))
    load.ids.append(json.loads(read_body(raw.joined()))["id"])
    load.num_tokens += 1


async def get(connection: Connection, path: str) -> Any:
    raw = await connection.exchange(f"GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode())
    return json.loads(read_body(raw.joined()))


async def client(
    server: RunningServer, numbers: Iterator[int], load: Load, *, stored: bool, stream: bool
) -> None:
    """One request after another, as long as there are numbers."""
    connection = await connect(server.port)
    ask = ask_stream if stream else ask_short
    for number in numbers:
        await ask(connection, body(server.model, number, stored=stored, stream=stream), load)
    connection.close()


async def streams(server: RunningServer, num_requests: int, *, stored: bool) -> Load:
    load, numbers = Load(), iter(range(num_requests))
    clients = [
        client(server, numbers, load, stored=stored, stream=True) for _ in range(NUM_STREAMS)
    ]
    await asyncio.gather(*clients)
    return load


async def short(server: RunningServer, seconds: float, *, stored: bool) -> Load:
    """Short answers for so long, and until they are stored."""
    load, end = Load(), time.perf_counter() + seconds

    def numbers() -> Iterator[int]:
        number = 0
        while time.perf_counter() < end:
            yield (number := number + 1)

    shared = numbers()
    clients = [
        client(server, shared, load, stored=stored, stream=False) for _ in range(SHORT_CONCURRENCY)
    ]
    connection = await connect(server.port)
    watcher = asyncio.create_task(_watch(connection, load))
    await asyncio.gather(*clients)
    watcher.cancel()
    await asyncio.gather(watcher, return_exceptions=True)
    connection.close()
    return load


async def _watch(connection: Connection, load: Load) -> None:
    """How long a list waits, again and again."""
    while True:
        started = time.perf_counter()
        await get(connection, f"{CHAT}?limit=1&order=desc")
        load.waits.append(time.perf_counter() - started)
        await asyncio.sleep(LOOK_SECONDS)


async def missing(server: RunningServer, load: Load) -> int:
    """How many of the accepted answers no list has."""
    connection, after, found = await connect(server.port), "", set[str]()
    while True:
        page = await get(connection, f"{CHAT}?limit=100&after={after}")
        found.update(each["id"] for each in page["data"])
        if not page["has_more"]:
            connection.close()
            return len(set(load.ids) - found)
        after = page["last_id"]


def take_sample(
    server: RunningServer, part: str, arguments: argparse.Namespace, *, stored: bool
) -> dict[str, float]:
    before, started = server.cpu_seconds(), time.perf_counter()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        if part == "short":
            load = runner.run(short(server, arguments.seconds, stored=stored))
        else:
            load = runner.run(streams(server, arguments.requests, stored=stored))
        seconds = time.perf_counter() - started
        cpu = server.cpu_seconds() - before
        lost = runner.run(missing(server, load)) if part == "short" and stored else 0
    if lost:
        raise SystemExit(f"{lost} of {len(load.ids)} accepted answers are not stored")
    shared = {"cpu_us_per_token": cpu / load.num_tokens * 1e6}
    if part == "short":
        half = len(load.waits) // 2
        return shared | {
            "answers_per_s": len(load.ids) / seconds,
            "list_ms_first_half": median(load.waits[:half]) * 1e3,
            "list_ms_second_half": median(load.waits[half:]) * 1e3,
            "list_ms_max": max(load.waits) * 1e3,
        }
    return shared | {
        "ttft_ms_p50": percentile(load.ttft, 50) * 1e3,
        "ttft_ms_p95": percentile(load.ttft, 95) * 1e3,
        "gap_ms_p95": percentile(load.gaps, 95) * 1e3,
    }


def run_part(part: str, arguments: argparse.Namespace) -> list[dict[str, float]]:
    """Medians over the rounds: without storing, with it, and their ratio. The first round counts
    for nothing."""
    taken: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "engine.max_num_seqs": "64",
            "engine.scripted.step_ms": STEP_MS[part],
            "store.path": str(Path(folder) / "store.db"),
        }
        with gateway(settings) as server:
            for number in range(arguments.rounds + 1):
                for stored in (False, True) if number % 2 else (True, False):
                    sample = take_sample(server, part, arguments, stored=stored)
                    if number:
                        taken[stored].append(sample)
    without, with_it = (
        {name: median([sample[name] for sample in taken[stored]]) for name in taken[stored][0]}
        for stored in (False, True)
    )
    ratio = {name: with_it[name] / without[name] for name in without}
    return [{"stored": float(stored), **row} for stored, row in ((0, without), (1, with_it))] + [
        {"stored": float("nan"), **ratio}
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=256, help="streams of each round")
    parser.add_argument("--seconds", type=float, default=10.0, help="of short answers each round")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS)
    arguments = parser.parse_args()
    rows = {part: run_part(part, arguments) for part in arguments.only}
    for part, part_rows in rows.items():
        report(f"{part}: without storing, with it, ratio", part_rows, None)
    write_json("store", {"machine": machine(), "rounds": arguments.rounds, **rows})


if __name__ == "__main__":
    main()
