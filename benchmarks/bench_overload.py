"""Ten times as many requests as the server can take, clients that leave, and /health meanwhile.

    scripts/bench overload
    scripts/bench overload --seconds 10 --leavers 1000

The scripted engine at 20 ms a step, eight places and eight that wait. `peak` is what sixteen
clients get through that ask again and again; `overload` sends ten times as many requests as that,
at a steady rate. Times of refusals are taken at the client, whose event loop shares the machine,
and as the server's `openai-processing-ms`, which counts whole milliseconds. `leavers` read one
token.
"""

import argparse
import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

from bench_soak import leave
from machine import machine
from report import write_json
from server import RunningServer, gateway
from wire import HOST, connect, header, new_event_loop, post

CHAT = "/v1/chat/completions"
NUM_TOKENS = 20
PLACES = 16
SETTINGS = {
    "engine.max_num_seqs": "8",
    "engine.max_num_waiting": "8",
    "engine.scripted.step_ms": "20",
}
LEAVER_SETTINGS = {"engine.max_num_seqs": "64", "engine.scripted.step_ms": "2"}
GET_HEALTH = f"GET /health HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode()


@dataclass
class Outcome:
    """Counts, and times in seconds; `server_ms` as the server says."""

    served: int = 0
    client_refusals: list[float] = field(default_factory=list)
    server_ms: list[float] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    health: list[float] = field(default_factory=list)


def chat(server: RunningServer, max_tokens: int = NUM_TOKENS, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "hello"}]
    return {"model": server.model, "messages": messages, "max_tokens": max_tokens, **fields}


async def ask(server: RunningServer, outcome: Outcome) -> None:
    try:
        connection = await connect(server.port)
        started = time.perf_counter()
        reply = (await connection.exchange(post(CHAT, chat(server)))).joined()
        seconds = time.perf_counter() - started
        connection.close()
    except Exception as error:  # counted: any other end than an answer or a refusal is a finding
        outcome.other.append(f"{type(error).__name__}: {error}")
        return
    head = reply.partition(b"\r\n\r\n")[0]
    match reply.split(b" ", 2)[1]:
        case b"200":
            outcome.served += 1
        case b"429":
            outcome.client_refusals.append(seconds)
            outcome.server_ms.append(float(header(head, b"openai-processing-ms") or "nan"))
        case status:
            outcome.other.append(f"status {status!r}")


async def closed_loop(server: RunningServer, seconds: float) -> float:
    """Answers a second for as many clients as there are places."""
    outcome, end = Outcome(), time.perf_counter() + seconds

    async def client() -> None:
        while time.perf_counter() < end:
            await ask(server, outcome)

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(PLACES)))
    return outcome.served / (time.perf_counter() - started)


async def open_loop(server: RunningServer, seconds: float, rate: float) -> Outcome:
    outcome, tasks, started = Outcome(), [], time.perf_counter()
    watcher = asyncio.create_task(watch_health(server, outcome))
    for number in range(int(seconds * rate)):
        await asyncio.sleep(max(0.0, started + number / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(ask(server, outcome)))
    watcher.cancel()
    await asyncio.gather(*tasks)
    return outcome


async def watch_health(server: RunningServer, outcome: Outcome) -> None:
    """Ten times a second."""
    connection = await connect(server.port)
    while True:
        started = time.perf_counter()
        await connection.exchange(GET_HEALTH)
        outcome.health.append(time.perf_counter() - started)
        await asyncio.sleep(0.1)


async def health(server: RunningServer) -> dict[str, Any]:
    connection = await connect(server.port)
    body = (await connection.exchange(GET_HEALTH)).joined().partition(b"\r\n\r\n")[2]
    connection.close()
    document: dict[str, Any] = json.loads(body)
    return document


async def leavers(server: RunningServer, number: int) -> Outcome:
    """So many clients that leave after their first token, sixty-four at a time."""
    outcome, places = Outcome(), asyncio.Semaphore(64)
    watcher = asyncio.create_task(watch_health(server, outcome))

    async def one() -> None:
        async with places:
            try:
                await leave(await connect(server.port), chat(server, 30_000, stream=True))
            except Exception as error:
                outcome.other.append(f"{type(error).__name__}: {error}")

    await asyncio.gather(*(one() for _ in range(number)))
    watcher.cancel()
    return outcome


def at(share: float, values: list[float]) -> float:
    ordered = sorted(values) or [float("nan")]
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def overload(server: RunningServer, seconds: float) -> dict[str, Any]:
    peak = await closed_loop(server, 10)
    memory = server.memory_bytes()
    started = time.perf_counter()
    outcome = await open_loop(server, seconds, 10 * peak)
    goodput = outcome.served / (time.perf_counter() - started)
    return {
        "peak_per_second": peak,
        "goodput_per_second": goodput,
        "goodput_share": goodput / peak,
        "refused": len(outcome.client_refusals),
        "other": len(outcome.other),
        "first_other": outcome.other[:3],
        "refusal_client_ms_p50": 1e3 * at(0.5, outcome.client_refusals),
        "refusal_client_ms_p99": 1e3 * at(0.99, outcome.client_refusals),
        "refusal_server_ms_p99": at(0.99, outcome.server_ms),
        "health_ms_p50": 1e3 * at(0.5, outcome.health),
        "health_ms_max": 1e3 * max(outcome.health),
        "memory_growth": server.memory_bytes() / memory - 1,
    }


async def leave_all(server: RunningServer, number: int) -> dict[str, Any]:
    await leavers(server, 500)  # warm
    memory = server.memory_bytes()
    outcome = await leavers(server, number)
    for _ in range(100):
        state = await health(server)
        if not state["num_requests_in_flight"] and not state["stats"]["num_running"]:
            break
        await asyncio.sleep(0.05)
    return {
        "clients": number,
        "other": len(outcome.other),
        "in_flight_after": state["num_requests_in_flight"],
        "running_after": state["stats"]["num_running"],
        "kv_cache_usage_after": state["stats"]["kv_cache_usage"],
        "health_ms_p50": 1e3 * at(0.5, outcome.health),
        "health_ms_max": 1e3 * max(outcome.health),
        "memory_growth": server.memory_bytes() / memory - 1,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--leavers", type=int, default=10_000)
    arguments = parser.parse_args()
    loop = new_event_loop()
    results = {}
    try:
        with gateway(SETTINGS) as server:
            results["overload"] = loop.run_until_complete(overload(server, arguments.seconds))
            print(json.dumps(results["overload"], indent=1), flush=True)
        with gateway(LEAVER_SETTINGS) as server:
            results["leavers"] = loop.run_until_complete(leave_all(server, arguments.leavers))
            print(json.dumps(results["leavers"], indent=1), flush=True)
    finally:
        loop.close()
    write_json("overload", {"machine": machine(), **results})


if __name__ == "__main__":
    main()
