"""Twenty minutes of mixed requests: does the resident memory of the two processes grow?

    scripts/bench soak
    scripts/bench soak --minutes 2 --rate 50
    scripts/bench soak --model PATH_OF_A_GGUF_FILE

Streams, whole answers, clients that leave in mid-stream, wrong requests and structured answers, at
a steady rate. The scripted engine refuses structured answers, which is one more wrong request; with
`--model` they are generated. Memory is read every five seconds; the first fifth of the run is for
warming up, and the growth is from the median of the second fifth to that of the last.
"""

import argparse
import asyncio
import random
import statistics
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import psutil
from machine import machine
from report import write_json
from server import RunningServer, gateway
from wire import Connection, connect, new_event_loop, post, read_body, split_events

SAMPLE_SECONDS = 5.0
CHAT = "/v1/chat/completions"
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "size": {"type": "integer"}},
    "required": ["name", "size"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "thing", "schema": SCHEMA}}
KINDS = ("stream", "stream", "whole", "abort", "wrong", "structured")
"""Streams come twice as often as each of the others."""


@dataclass
class Soak:
    """What has happened so far. `memory` has a row for each reading: seconds, bytes of the gateway,
    bytes of the engine process."""

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    memory: list[tuple[float, int, int]] = field(default_factory=list)


async def one(port: int, model: str, kind: str, number: int, has_grammars: bool) -> str:
    """Send a request of this kind; what came, in a word."""
    connection = await connect(port)
    try:
        if kind == "abort":
            return await leave(connection, body(model, number, stream=True, max_tokens=1000))
        document = {
            "stream": lambda: body(model, number, stream=True),
            "whole": lambda: body(model, number),
            "wrong": lambda: body(model, number, temperature="hot"),
            "structured": lambda: body(model, number, response_format=FORMAT, max_tokens=100),
        }[kind]()
        joined = (await connection.exchange(post(CHAT, document))).joined()
        expected = 400 if kind == "wrong" or (kind == "structured" and not has_grammars) else 200
        status = int(joined.split(b" ", 2)[1])
        if status != expected:
            raise ValueError(f"{kind}: status {status}, expected {expected}: {joined[-300:]!r}")
        if kind == "stream":
            split_events(read_body(joined))
        return kind
    finally:
        connection.close()


async def leave(connection: Connection, document: dict[str, Any]) -> str:
    has_text = asyncio.Event()
    exchange = asyncio.create_task(connection.exchange(post(CHAT, document), has_text.set))
    await asyncio.wait_for(has_text.wait(), 60)
    connection.close()
    await asyncio.gather(exchange, return_exceptions=True)  # it ends with the connection
    return "abort"


def body(model: str, number: int, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"{number} " + "word " * (number % 200)}]
    return {"model": model, "messages": messages, "max_tokens": 40, **fields}


async def soak(server: RunningServer, seconds: float, rate: float, has_grammars: bool) -> Soak:
    """Send requests for so long, so many a second."""
    result, tasks, chance = Soak(), set[asyncio.Task[None]](), random.Random(1)
    started = time.monotonic()
    sampler = asyncio.create_task(sample(server, result, started))

    async def run(kind: str, number: int) -> None:
        try:
            result.counts[await one(server.port, server.model, kind, number, has_grammars)] += 1
        except Exception as error:  # one bad reply is a finding, not the end of the run
            result.problems.append(f"{kind}: {type(error).__name__}: {error}")

    for number in range(int(seconds * rate)):
        await asyncio.sleep(max(0.0, started + number / rate - time.monotonic()))
        task = asyncio.create_task(run(chance.choice(KINDS), number))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    if tasks:
        await asyncio.wait(tasks, timeout=120)
    sampler.cancel()
    return result


async def sample(server: RunningServer, result: Soak, started: float) -> None:
    gateway_process = psutil.Process(server.pid)
    [engine] = gateway_process.children()
    while True:
        rss = (gateway_process.memory_info().rss, engine.memory_info().rss)
        result.memory.append((time.monotonic() - started, *rss))
        await asyncio.sleep(SAMPLE_SECONDS)


def growth(values: list[int]) -> float:
    """From the second fifth to the last, as a share."""
    fifth = max(1, len(values) // 5)
    warm, last = values[fifth : 2 * fifth] or values[:1], values[-fifth:]
    return statistics.median(last) / statistics.median(warm) - 1


def settings_of(arguments: argparse.Namespace) -> Mapping[str, str]:
    settings = {"engine.max_model_len": "2048", "engine.max_num_seqs": "64"}
    if arguments.model:
        return {
            **settings,
            "engine.name": "llama_cpp",
            "engine.max_num_seqs": "8",
            "engine.llama_cpp.num_threads": "1",
            "engine.prefix_cache_gb": "0.05",  # full long before the first fifth is over
            "model.name_or_path": arguments.model,
            "model.served_name": "scripted",
        }
    return {**settings, "engine.scripted.step_ms": "5"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second")
    parser.add_argument("--model", default="", help="a GGUF file for the embedded engine")
    arguments = parser.parse_args()
    loop = new_event_loop()
    try:
        with gateway(settings_of(arguments), timeout=120) as server:
            work = soak(server, arguments.minutes * 60, arguments.rate, bool(arguments.model))
            result = loop.run_until_complete(work)
    finally:
        loop.close()
    report(result)


def report(result: Soak) -> None:
    _, gateways, engines = (list(column) for column in zip(*result.memory, strict=True))
    print(f"requests: {dict(result.counts)}, unexpected: {len(result.problems)}")
    for problem in result.problems[:5]:
        print(f"  {problem}")
    rows = {"gateway": gateways, "engine": engines}
    for name, values in rows.items():
        warm = values[len(values) // 5]
        print(f"{name}: {warm / 1e6:.1f} MB, {values[-1] / 1e6:.1f} MB, {growth(values):+.2%}")
    write_json(
        "soak",
        {
            "machine": machine(),
            "requests": dict(result.counts),
            "problems": result.problems,
            "memory": result.memory,
            "growth": {name: growth(values) for name, values in rows.items()},
        },
    )


if __name__ == "__main__":
    main()
