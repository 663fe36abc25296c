"""How long does /health take beside a real model under full load?

    scripts/bench health --model PATH_OF_A_GGUF_FILE
    scripts/bench health --model PATH_OF_A_GGUF_FILE --seconds 20 --words 300

As many clients as the engine has places ask one long question after another; no two begin alike,
so every prompt is read. /health is asked ten times a second meanwhile, on a connection of its own.
"""

import argparse
import asyncio
import itertools
import json
import time
from typing import Any

from bench_overload import Outcome, at, watch_health
from machine import machine
from report import write_json
from server import RunningServer, gateway
from wire import connect, new_event_loop, post
from words import Words

CHAT = "/v1/chat/completions"
NUM_STREAMS = 16
SETTINGS = {
    "engine.name": "llama_cpp",
    "engine.max_num_seqs": str(NUM_STREAMS),
    "engine.max_model_len": "2048",
    "engine.num_kv_tokens": "32768",
    "engine.prefix_cache_gb": "0.2",
    "model.served_name": "scripted",
}


def body(model: str, number: int, num_words: int) -> dict[str, Any]:
    content = f"{number} {Words(str(number)).take(num_words)}"
    return {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 40,
        "stream": True,
    }


async def client(server: RunningServer, numbers: "itertools.count[int]", num_words: int) -> None:
    """One question after another. Raises ValueError at an answer that is none."""
    while True:
        connection = await connect(server.port)
        try:
            document = body(server.model, next(numbers), num_words)
            reply = (await connection.exchange(post(CHAT, document))).joined()
        finally:
            connection.close()
        if not reply.startswith(b"HTTP/1.1 200") or b"[DONE]" not in reply:
            raise ValueError(f"no answer: {reply[-300:]!r}")


async def run(server: RunningServer, seconds: float, num_words: int) -> dict[str, Any]:
    outcome, numbers = Outcome(), itertools.count()
    clients = [asyncio.create_task(client(server, numbers, num_words)) for _ in range(NUM_STREAMS)]
    watcher = asyncio.create_task(watch_health(server, outcome))
    started = time.perf_counter()
    done, _ = await asyncio.wait(
        [*clients, watcher], timeout=seconds, return_when=asyncio.FIRST_COMPLETED
    )
    elapsed = time.perf_counter() - started
    for task in (*clients, watcher):
        task.cancel()
    await asyncio.gather(*clients, watcher, return_exceptions=True)
    for task in done:
        task.result()  # nobody ends by himself but by an error
    return {
        "seconds": elapsed,
        "questions": next(numbers),
        "health_asked": len(outcome.health),
        "health_ms_p50": 1e3 * at(0.5, outcome.health),
        "health_ms_p99": 1e3 * at(0.99, outcome.health),
        "health_ms_max": 1e3 * max(outcome.health),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="a GGUF file")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--words", type=int, default=1000, help="of each question")
    arguments = parser.parse_args()
    loop = new_event_loop()
    try:
        with gateway({**SETTINGS, "model.name_or_path": arguments.model}, timeout=120) as server:
            work = run(server, arguments.seconds, arguments.words)
            result = {**loop.run_until_complete(work), "machine": machine()}
    finally:
        loop.close()
    print(json.dumps(result, indent=1))
    write_json("health", result)


if __name__ == "__main__":
    main()
