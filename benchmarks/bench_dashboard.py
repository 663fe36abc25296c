"""Does the dashboard show what has happened, and do the alerts fire? With a real Prometheus.

    scripts/bench dashboard --out docs/dashboard.png
    scripts/bench dashboard --model PATH_OF_A_GGUF_FILE

Needs `prometheus` on the path; for the picture see dashboard_picture.py. Six minutes: streams,
whole answers, structured ones, wrong requests and clients that leave; an engine that is killed, and
once more as soon as it is back; more requests than there is room for, some of which give way to
others; quiet. The scripted engine also gets requests that kill it. In the end the counters that
Prometheus has are held against what the clients saw, the picture is drawn, and the server is
stopped, which has an alert too. The alerts are those of deploy/prometheus, but what they wait for
(`for`) is cut to ten seconds.
"""

import argparse
import asyncio
import contextlib
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
from bench_soak import CHAT, FORMAT, KINDS, leave
from dashboard_picture import get, picture
from machine import machine
from report import write_json
from server import ROOT, RunningServer, free_port, gateway, running, wait_for
from wire import connect, new_event_loop, post

DEPLOY = ROOT / "deploy" / "prometheus"
SCRAPE_SECONDS = 2
RATE_INTERVAL = "20s"
MODEL = "qwen2.5-coder-0.5b-instruct"
SETTINGS = {
    "engine.max_num_seqs": "8",
    "engine.max_num_waiting": "24",
    "engine.max_model_len": "2048",
    "engine.preempt_after": "1",
    "engine.max_restarts": "10",
}
POISON = "arsenic"
SCRIPTED = {
    "engine.scripted.step_ms": "40",
    "engine.scripted.poison": POISON,
    "model.served_name": MODEL,
}
SYSTEM = "You are a helpful programmer who answers in one short sentence. " * 4


@dataclass
class Seen:
    """What the clients saw. `statuses` of requests that were answered; `left` are those whose
    client went away in mid-stream, after a 200."""

    statuses: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    fired: dict[str, float] = field(default_factory=dict)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


def body(server: RunningServer, number: int, poison: str = "", **fields: Any) -> dict[str, Any]:
    question = f"{poison} Question {number}: " + "what is a list? " * (1 + number % 12)
    messages = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": question},
    ]
    return {"model": server.model, "messages": messages, "max_tokens": 24, **fields}


def fields_of(kind: str, number: int) -> dict[str, Any]:
    return {
        "stream": {"stream": True, "max_tokens": 16 + number % 32},
        "whole": {},
        "abort": {"stream": True, "max_tokens": 1000},
        "wrong": {"temperature": "hot"},
        "structured": {"response_format": FORMAT, "max_tokens": 60},
        "long": {"stream": True, "max_tokens": 200},
        "batch": {"priority": "batch", "max_tokens": 60},
        "interactive": {"priority": "interactive"},
        "poison": {"poison": POISON},
    }[kind]


async def ask(server: RunningServer, seen: Seen, kind: str, number: int) -> None:
    """One request of this kind; what came of it is counted."""
    seen.kinds[kind] += 1
    document = body(server, number, **fields_of(kind, number))
    try:
        connection = await connect(server.port)
        if kind == "abort":
            await leave(connection, document)
            seen.statuses["left"] += 1
            return
        reply = (await connection.exchange(post(CHAT, document))).joined()
        connection.close()
        seen.statuses[reply.split(b" ", 2)[1].decode()] += 1
    except Exception as error:  # one bad reply is a finding, not the end of the run
        seen.problems.append(f"{kind}: {type(error).__name__}: {error}")


def start(server: RunningServer, seen: Seen, kind: str, number: int) -> None:
    task = asyncio.create_task(ask(server, seen, kind, number))
    seen.tasks.add(task)
    task.add_done_callback(seen.tasks.discard)


async def load(
    server: RunningServer, seen: Seen, seconds: float, rate: float, kinds: tuple[str, ...]
) -> None:
    """Requests of these kinds, so many a second, for so long."""
    chance, started = random.Random(int(rate * 100)), time.monotonic()
    for number in range(int(seconds * rate)):
        await asyncio.sleep(max(0.0, started + number / rate - time.monotonic()))
        start(server, seen, chance.choice(kinds), number)


async def kill_engine(server: RunningServer) -> None:
    """By its id, and wait for the next one."""
    [engine] = psutil.Process(server.pid).children()
    engine.send_signal(signal.SIGKILL)
    await asyncio.to_thread(engine.wait)
    await asyncio.to_thread(wait_for, server.port, "/health/ready", 60)


async def watch_alerts(url: str, seen: Seen, started: float, until: str = "") -> None:
    """Note when each alert fired first, in seconds from the start, until this one has."""
    while until not in seen.fired:
        for alert in (await asyncio.to_thread(get, f"{url}/api/v1/alerts"))["alerts"]:
            if alert["state"] == "firing":
                name = alert["labels"]["alertname"]
                seen.fired.setdefault(name, time.monotonic() - started)
        await asyncio.sleep(SCRAPE_SECONDS)


async def scenario(
    server: RunningServer, url: str, seen: Seen, scale: float, num_poisoned: int
) -> None:
    watcher = asyncio.create_task(watch_alerts(url, seen, time.monotonic()))
    await load(server, seen, 90 * scale, 0.5, KINDS)
    calm = asyncio.create_task(load(server, seen, 60 * scale, 0.4, KINDS))
    start(server, seen, "long", 0)
    await asyncio.sleep(3)
    for _ in range(2):
        await kill_engine(server)
        await asyncio.sleep(3)
    for number in range(num_poisoned):
        await ask(server, seen, "poison", number)
    await calm
    await load(server, seen, 90 * scale, 3.0, ("batch", "batch", "interactive", "stream"))
    if seen.tasks:
        await asyncio.wait(seen.tasks, timeout=180)
    await load(server, seen, 40 * scale, 0.4, KINDS)
    if seen.tasks:
        await asyncio.wait(seen.tasks, timeout=60)
    await asyncio.sleep(3 * SCRAPE_SECONDS)  # so that Prometheus has the last of it
    watcher.cancel()
    await asyncio.gather(watcher, return_exceptions=True)


def counters(url: str) -> dict[str, float]:
    """Chat completions as Prometheus has them from the server's start, in the words of `Seen`."""
    query = f'sum by (status) (lockgate_http_requests_total{{endpoint="{CHAT}"}})'
    answer = get(f"{url}/api/v1/query?query={quote(query)}")["result"]
    found = {each["metric"]["status"]: float(each["value"][1]) for each in answer}
    [left] = get(f"{url}/api/v1/query?query=sum(lockgate_requests_aborted_total)")["result"]
    found["left"] = float(left["value"][1])
    found["200"] = found.get("200", 0.0) - found["left"]
    return found


async def wait_for_alert(url: str, seen: Seen, name: str, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await watch_alerts(url, seen, time.monotonic(), until=name)


@contextlib.contextmanager
def prometheus(port: int, data: str) -> Iterator[str]:
    """deploy's Prometheus, but quicker: every two seconds, and alerts after ten. Its address."""
    command = shutil.which("prometheus")
    if command is None:
        sys.exit("prometheus is not installed")
    with tempfile.TemporaryDirectory() as name:
        folder, own = Path(name), free_port()
        config = (
            (DEPLOY / "prometheus.yml").read_text().replace("localhost:8000", f"localhost:{port}")
        )
        (folder / "prometheus.yml").write_text(
            re.sub(r"_interval: \w+", f"_interval: {SCRAPE_SECONDS}s", config)
        )
        alerts = (DEPLOY / "alerts.yml").read_text()
        (folder / "alerts.yml").write_text(re.sub(r"for: \w+", "for: 10s", alerts))
        arguments = [
            command,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={data or folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{own}",
        ]
        with running(arguments, os.environ):
            wait_for(own, "/-/ready", 30)
            yield f"http://127.0.0.1:{own}"


def settings_of(arguments: argparse.Namespace) -> Mapping[str, str]:
    if not arguments.model:
        return {**SETTINGS, **SCRIPTED}
    return {
        **SETTINGS,
        "engine.name": "llama_cpp",
        "engine.llama_cpp.num_threads": "1",
        "model.name_or_path": arguments.model,
        "model.served_name": MODEL,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="", help="a GGUF file for the embedded engine")
    parser.add_argument("--scale", type=float, default=1.0, help="of the times of all phases")
    parser.add_argument("--data", default="", help="where Prometheus' data is kept; else it is not")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/dashboard.png")
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(exist_ok=True)
    seen, loop = Seen(), new_event_loop()
    with contextlib.ExitStack() as stack, contextlib.closing(loop):
        server_up = stack.enter_context(contextlib.ExitStack())
        server = server_up.enter_context(gateway(settings_of(arguments), model=MODEL, timeout=120))
        url = stack.enter_context(prometheus(server.port, arguments.data))
        started = time.time()
        num_poisoned = 0 if arguments.model else 3
        work = scenario(server, url, seen, arguments.scale, num_poisoned)
        loop.run_until_complete(work)
        counted = counters(url)
        empty = picture(url, started, time.time(), RATE_INTERVAL, arguments.out)
        server_up.close()
        loop.run_until_complete(wait_for_alert(url, seen, "LockgateDown", 40))
    report(seen, counted, empty)


def report(seen: Seen, counted: Mapping[str, float], empty: list[str]) -> None:
    print(f"sent: {dict(seen.kinds)}")
    for status in sorted({*seen.statuses, *counted}):
        print(f"{status}: clients {seen.statuses[status]}, Prometheus {counted.get(status, 0):g}")
    print(f"fired: {', '.join(seen.fired) or 'nothing'}; unexpected: {seen.problems[:5]}")
    write_json(
        "dashboard",
        {
            "machine": machine(),
            "sent": dict(seen.kinds),
            "statuses": dict(seen.statuses),
            "prometheus": dict(counted),
            "fired": list(seen.fired),
            "problems": seen.problems,
            "empty_panels": empty,
        },
    )


if __name__ == "__main__":
    main()
