"""Kill, stop and poison the engine under sixteen streams: is every answer what it would have been?

    scripts/bench chaos
    scripts/bench chaos --rounds 3 --faults kill
    scripts/bench chaos --model PATH_OF_A_GGUF_FILE --rounds 5

In each round sixteen streams begin, half of them greedy and half sampled with a seed, and at a
random moment the fault comes: `kill` is SIGKILL, `stop` SIGSTOP, `poison` a request that makes the
scripted engine abort. The answers are compared with those of an undisturbed round, byte for byte;
`control` is a round without a fault, because a real model's answers also depend a little on who
else is in the batch, and `order` is one without a fault in which the streams come in another order,
one shortly after the other: how much of the parting that alone explains. Where greedy answers part,
the gap between the two likeliest tokens is told.
"""

import argparse
import asyncio
import json
import random
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil
from machine import machine
from report import write_json
from server import RunningServer, gateway, wait_for
from wire import BadReply, connect, new_event_loop, post, read_body, split_events

CHAT = "/v1/chat/completions"
NUM_STREAMS = 16
NEAR_TIE = 0.1
"""Greedy answers that part where the two likeliest tokens are closer than this (natural logarithm
of the ratio of their probabilities) part because of rounding."""

BETWEEN_STREAMS = 0.05
"""Seconds from one stream to the next where they come in another order."""

FAULTS = ["control", "order", "kill", "stop", "poison"]
POISON = "arsenic"
SETTINGS = {
    "engine.max_restarts": "1000",
    "engine.restart_window": "1",
    "engine.heartbeat_timeout": "2",
    "engine.max_num_seqs": "32",
}
SCRIPTED = {"engine.scripted.step_ms": "5", "engine.scripted.poison": POISON}
REAL = {
    "engine.name": "llama_cpp",
    "engine.heartbeat_timeout": "10",
    "engine.max_num_seqs": "16",
    "engine.max_model_len": "512",
    "engine.num_kv_tokens": "8192",
    "model.served_name": "scripted",
}


@dataclass(frozen=True)
class Answer:
    """What one stream said; `gaps` are those between the two likeliest tokens at each place."""

    tokens: list[str]
    gaps: list[float]
    finish_reason: str


@dataclass
class FaultReport:
    """What the rounds of one fault came to. `seconds` is from the fault to the next token at the
    latest of the streams: the longest pause that anybody saw."""

    fault: str
    rounds: int = 0
    streams: int = 0
    equal: int = 0
    failures: list[str] = field(default_factory=list)
    parted: list[dict[str, Any]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def body(model: str, number: int, max_tokens: int, poison: str = "") -> dict[str, Any]:
    content = f"{poison} Question {number}: tell a story about the number {number * 7}."
    return {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": max_tokens,
        "stream": True,
        "temperature": 0.0 if number % 2 == 0 else 1.0,
        "seed": number,
        "logprobs": True,
        "top_logprobs": 2,
    }


async def ask(server: RunningServer, document: dict[str, Any]) -> tuple[Answer, list[float]]:
    """The answer, and when its pieces came. Raises BadReply."""
    connection = await connect(server.port)
    try:
        raw = await connection.exchange(post(CHAT, document))
    finally:
        connection.close()
    return parse(split_events(read_body(raw.joined()))), raw.times


def parse(events: list[bytes]) -> Answer:
    tokens, gaps, finish_reason = list[str](), list[float](), ""
    for event in events:
        for choice in json.loads(event.removeprefix(b"data: "))["choices"]:
            finish_reason = choice["finish_reason"] or finish_reason
            for token in (choice.get("logprobs") or {}).get("content") or []:
                tokens.append(token["token"])
                first, second = (entry["logprob"] for entry in token["top_logprobs"])
                gaps.append(first - second)
    return Answer(tokens, gaps, finish_reason)


async def answers(server: RunningServer, max_tokens: int) -> list[Answer]:
    documents = [body(server.model, number, max_tokens) for number in range(NUM_STREAMS)]
    return [answer for answer, _ in await asyncio.gather(*(ask(server, d) for d in documents))]


async def round_of(
    server: RunningServer, fault: str, expected: list[Answer], max_tokens: int, delay: float
) -> tuple[list[Answer | BaseException], float]:
    """What the streams said, and the longest pause after the fault."""
    tasks = await begin(server, order_of(fault, len(expected)), max_tokens)
    await asyncio.sleep(delay)
    at = time.perf_counter()
    await commit(server, fault)
    done = await asyncio.gather(*tasks, return_exceptions=True)
    pauses = [
        next((t - at for t in d[1] if t > at + 0.2), 0.0) for d in done if isinstance(d, tuple)
    ]
    return [d[0] if isinstance(d, tuple) else d for d in done], max(pauses, default=0.0)


def order_of(fault: str, number: int) -> list[int]:
    """The streams as they come."""
    order = list(range(number))
    if fault == "order":
        random.Random(number).shuffle(order)
    return order


async def begin(
    server: RunningServer, order: list[int], max_tokens: int
) -> list[asyncio.Task[tuple[Answer, list[float]]]]:
    """The streams as tasks, sorted by their numbers; those in order come all at once."""
    tasks = {}
    for number in order:
        document = body(server.model, number, max_tokens)
        tasks[number] = asyncio.create_task(ask(server, document))
        if order != sorted(order):
            await asyncio.sleep(BETWEEN_STREAMS)
    return [tasks[number] for number in sorted(tasks)]


async def commit(server: RunningServer, fault: str) -> None:
    """Do it. Raises ValueError where the poisoned request is not answered as it should be."""
    if fault in ("control", "order"):
        return
    if fault == "poison":
        connection = await connect(server.port)
        try:
            document = body(server.model, 0, 10, POISON)
            reply = (await connection.exchange(post(CHAT, document))).joined()
        finally:
            connection.close()
        if not (reply.startswith(b"HTTP/1.1 500") and b'"engine_crashed"' in reply):
            raise ValueError(f"the poisoned request got {reply[-300:]!r}")
        return
    [engine] = psutil.Process(server.pid).children()
    engine.send_signal(signal.SIGKILL if fault == "kill" else signal.SIGSTOP)


def compare(report: FaultReport, expected: list[Answer], got: list[Answer | BaseException]) -> None:
    for number, (want, have) in enumerate(zip(expected, got, strict=True)):
        report.streams += 1
        if isinstance(have, BaseException):
            report.failures.append(f"stream {number}: {type(have).__name__}: {have}")
        elif have.tokens == want.tokens and have.finish_reason == want.finish_reason:
            report.equal += 1
        else:
            report.parted.append(parting(number, want, have))


def parting(number: int, want: Answer, have: Answer) -> dict[str, Any]:
    pairs = zip(want.tokens, have.tokens, strict=False)
    place = next((i for i, (a, b) in enumerate(pairs) if a != b), len(have.tokens))
    return {
        "stream": number,
        "greedy": number % 2 == 0,
        "token": place,
        "gap": want.gaps[place] if place < len(want.gaps) else None,
        "lengths": (len(want.tokens), len(have.tokens)),
    }


async def run(
    server: RunningServer, faults: list[str], rounds: int, max_tokens: int
) -> list[FaultReport]:
    """All rounds of all faults."""
    chance = random.Random(1)
    started = time.perf_counter()
    expected = await answers(server, max_tokens)
    usual = time.perf_counter() - started
    reports = []
    for fault in faults:
        report = FaultReport(fault)
        reports.append(report)
        for _ in range(rounds):
            delay = chance.random() * usual * 0.9
            try:
                got, pause = await round_of(server, fault, expected, max_tokens, delay)
            except (ValueError, BadReply) as error:
                report.failures.append(f"{type(error).__name__}: {error}")
                continue
            report.rounds += 1
            report.seconds.append(pause)
            compare(report, expected, got)
            await asyncio.to_thread(wait_for, server.port, "/health/ready", 60)
        print_report(report)
    return reports


def print_report(report: FaultReport) -> None:
    ties = [
        p for p in report.parted if p["greedy"] and p["gap"] is not None and p["gap"] < NEAR_TIE
    ]
    sampled = [p for p in report.parted if not p["greedy"]]
    pauses = sorted(report.seconds) or [0.0]
    print(
        f"{report.fault}: {report.rounds} rounds, {report.streams} streams, {report.equal} equal,"
        f" {len(report.failures)} failed, {len(report.parted)} parted ({len(ties)} greedy at near"
        f" ties, {len(sampled)} sampled); pause median {pauses[len(pauses) // 2]:.2f} s, longest"
        f" {pauses[-1]:.2f} s"
    )
    for failure in report.failures[:5]:
        print(f"  {failure}")
    for parted in report.parted:
        print(f"  {parted}")


def settings_of(model: str) -> Mapping[str, str]:
    if not model:
        return {**SETTINGS, **SCRIPTED}
    return {**SETTINGS, **REAL, "model.name_or_path": model}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--max-tokens", type=int, default=200)
    parser.add_argument("--faults", nargs="+", default=FAULTS)
    parser.add_argument("--model", default="", help="a GGUF file for the embedded engine")
    arguments = parser.parse_args()
    faults = [fault for fault in arguments.faults if not (arguments.model and fault == "poison")]
    loop = new_event_loop()
    try:
        with gateway(settings_of(arguments.model), timeout=120) as server:
            work = run(server, faults, arguments.rounds, arguments.max_tokens)
            reports = loop.run_until_complete(work)
    finally:
        loop.close()
    write_json("chaos", {"machine": machine(), "faults": [asdict(report) for report in reports]})


if __name__ == "__main__":
    main()
