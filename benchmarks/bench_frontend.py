"""What the gateway process costs: CPU per streamed token and per short request, over real HTTP.

The scripted engine answers at full speed in its own process, whose CPU time is not counted. The
same client measures a rival in alternating rounds of the same run: NVIDIA Dynamo's front end with
`--dynamo` and `--dynamo-model`, or another source tree's gateway with `--before`. See README.md.
"""

import argparse
import contextlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from dynamo import dynamo
from load import Call, LoadResult, run_load
from machine import machine
from rich.console import Console
from rich.table import Table
from server import ROOT, RunningServer, gateway, starting_gateway, wait_for
from stats import median, percentile
from words import WORDS

DEFAULT_TOKENIZER = "qwen2.5-coder-0.5b-instruct"
RESULTS = ROOT / "benchmarks" / "results"

PROMPT_TOKENS = 32
STREAM_TOKENS = 256
SEQUENCE_STREAMS = 1000
SEQUENCE_TOKENS = 16
SHORT_CONCURRENCY = 32
LOAD_MS = "8000"
STARTS = 5

PARTS = ("streams", "short", "sequence", "paced", "start")


@dataclass(frozen=True)
class Pace:
    """How fast the engines go: milliseconds a step for ours, a factor for the peer's mock."""

    step_ms: str
    speedup: str


FULL_SPEED = Pace("0", "1000000")
LIKE_A_GPU = Pace("10", "1")
"""The mock engine's own pace is 6 to 10 ms a token at 64 to 256 streams."""


@dataclass(frozen=True)
class Measure:
    """A load, and what its CPU time is divided by. `target` in microseconds."""

    name: str
    call: Call
    num_requests: int
    concurrency: int
    per: str
    target: float | None


@dataclass(frozen=True)
class Sample:
    """One server in one round of one measure. CPU in microseconds per token or request, times in
    milliseconds."""

    cpu_us: float
    per_second: float
    tokens_per_event: float
    sent_whole: float
    ttft_p50: float
    ttft_p95: float
    tpot_p50: float
    tpot_p95: float
    prompt_tokens: int
    completion_tokens: int
    connections: int
    failures: list[str]


def prompt(number: int) -> str:
    """32 words that are a token each in a byte-level BPE vocabulary; no two requests in a load
    begin alike, so that no prefix cache answers for the front end."""
    offset, stride = number % len(WORDS), 1 + number // len(WORDS) % (len(WORDS) - 1)
    return "".join(f" {WORDS[(offset + i * stride) % len(WORDS)]}" for i in range(PROMPT_TOKENS))


def chat(model: str, max_tokens: int, *, stream: bool) -> Call:
    """Chat completions of exactly `max_tokens` tokens."""

    def body(number: int) -> dict[str, Any]:
        message = {"role": "user", "content": prompt(number)}
        return _body(model, max_tokens, stream=stream) | {"messages": [message]}

    return Call("/v1/chat/completions", body, stream, max_tokens)


def completion(model: str, max_tokens: int) -> Call:
    """Completions in one piece."""

    def body(number: int) -> dict[str, Any]:
        return _body(model, max_tokens, stream=False) | {"prompt": prompt(number)}

    return Call("/v1/completions", body, stream=False, max_tokens=max_tokens)


def tool_chat(model: str) -> Call:
    """Short chats with 20 tools of 12 parameters each, as agents send them."""
    fields = {f"field_{number}": {"type": "string", "description": "d"} for number in range(12)}
    schema = {"type": "object", "properties": fields, "required": ["field_0"]}
    tools = [
        {"type": "function", "function": {"name": f"tool_{number}", "parameters": schema}}
        for number in range(20)
    ]

    def body(number: int) -> dict[str, Any]:
        message = {"role": "user", "content": prompt(number)}
        return _body(model, 1, stream=False) | {"messages": [message], "tools": tools}

    return Call("/v1/chat/completions", body, stream=False, max_tokens=1)


def _body(model: str, max_tokens: int, *, stream: bool) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "max_tokens": max_tokens}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body


def measures(model: str, parts: set[str]) -> list[Measure]:
    """The rows of the table that are made of rounds."""
    rows = []
    if "streams" in parts:
        call = chat(model, STREAM_TOKENS, stream=True)
        for concurrency, num_requests in ((1, 64), (64, 256), (256, 512)):
            name = f"{concurrency} stream{'s'[: concurrency > 1]}"
            rows.append(Measure(name, call, num_requests, concurrency, "token", 15.0))
    if "short" in parts:
        for name, call in (
            ("short chat", chat(model, 1, stream=False)),
            ("short completion", completion(model, 1)),
        ):
            rows.append(Measure(name, call, 2000, SHORT_CONCURRENCY, "request", 400.0))
        rows.append(
            Measure("chat with 20 tools", tool_chat(model), 500, SHORT_CONCURRENCY, "request", None)
        )
    if "paced" in parts:
        call = chat(model, STREAM_TOKENS, stream=True)
        for concurrency in (64, 256):
            name = f"{concurrency} streams, paced"
            rows.append(Measure(name, call, concurrency, concurrency, "token", None))
    return rows


def take_sample(server: RunningServer, measure: Measure) -> Sample:
    """One load on one server."""
    before = server.cpu_seconds()
    result = run_load(
        server.port,
        measure.call,
        num_requests=measure.num_requests,
        concurrency=measure.concurrency,
    )
    cpu_seconds = server.cpu_seconds() - before
    units = result.num_tokens if measure.per == "token" else len(result.replies)
    return Sample(
        cpu_us=cpu_seconds / max(units, 1) * 1e6,
        per_second=units / result.seconds,
        tokens_per_event=result.num_tokens / max(result.num_events, 1),
        sent_whole=100 * result.num_sent_whole / max(len(result.replies), 1),
        **_latencies(result),
        prompt_tokens=max((reply.prompt_tokens for reply in result.replies), default=0),
        completion_tokens=result.num_tokens,
        connections=result.connections,
        failures=result.failures,
    )


def _latencies(result: LoadResult) -> dict[str, float]:
    ttft = [reply.ttft * 1e3 for reply in result.replies]
    tpot = [reply.tpot * 1e3 for reply in result.replies]
    return {
        "ttft_p50": percentile(ttft, 50),
        "ttft_p95": percentile(ttft, 95),
        "tpot_p50": percentile(tpot, 50),
        "tpot_p95": percentile(tpot, 95),
    }


FIELDS = (
    ("CPU", "µs/{}", "cpu_us"),
    ("rate", "{}s/s", "per_second"),
    ("tokens per event", "", "tokens_per_event"),
    ("sent in one event", "%", "sent_whole"),
    ("TTFT p50", "ms", "ttft_p50"),
    ("TTFT p95", "ms", "ttft_p95"),
    ("TPOT p50", "ms", "tpot_p50"),
    ("TPOT p95", "ms", "tpot_p95"),
)
"""Label, unit and field of `Sample`: the rows of each measure."""

STREAM_FIELDS = ("tokens_per_event", "sent_whole", "tpot_p50", "tpot_p95")

Names = tuple[str, str]
"""The server of this tree, and its rival."""

Samples = dict[str, dict[str, list[Sample]]]
"""By measure, then by server, one for each round."""


def run_rounds(
    servers: list[RunningServer], parts: set[str], rounds: int, console: Console
) -> Samples:
    """All measures, every server in turn. One short load each goes ahead, uncounted."""
    samples: Samples = {}
    for number in range(rounds + 1):
        for server in servers if number % 2 else reversed(servers):
            for measure in measures(server.model, parts):
                if number == 0:
                    warm_up(server, measure)
                    continue
                sample = take_sample(server, measure)
                samples.setdefault(measure.name, {}).setdefault(server.name, []).append(sample)
                console.print(
                    f"round {number}/{rounds}  {server.name:8}  {measure.name:16}"
                    f"  {sample.cpu_us:7.1f} µs/{measure.per}  load {psutil.getloadavg()[0]:.1f}",
                    style="dim",
                )
    return samples


def warm_up(server: RunningServer, measure: Measure) -> None:
    """A tenth of the load."""
    run_load(
        server.port,
        measure.call,
        num_requests=max(measure.num_requests // 10, measure.concurrency),
        concurrency=measure.concurrency,
    )


def run_sequence(server: RunningServer) -> LoadResult:
    """Streams one after another; with one connection opened, they all came over it."""
    return run_load(
        server.port,
        chat(server.model, SEQUENCE_TOKENS, stream=True),
        num_requests=SEQUENCE_STREAMS,
        concurrency=1,
    )


def time_of_start(settings: dict[str, str]) -> float:
    """Seconds from the start of the command to the first 200 of /health/live, the engine loading
    all the while."""
    started = time.perf_counter()
    with starting_gateway({**settings, "engine.scripted.load_ms": LOAD_MS}) as server:
        wait_for(server.port, "/health/live", timeout=30.0)
        return time.perf_counter() - started


def fill_table(table: Table, samples: Samples, names: Names) -> None:
    """A block of rows for each measure: medians over the rounds."""
    for measure in measures("", set(PARTS)):
        by_server = samples.get(measure.name)
        if by_server is None:
            continue
        for label, unit, field in FIELDS:
            if field in STREAM_FIELDS and measure.per == "request":
                continue
            ours, theirs = (_median(by_server, name, field) for name in names)
            name = f"{measure.name}: {label}"
            target = f"≤ {measure.target:g}" if field == "cpu_us" and measure.target else ""
            unit = unit.format(measure.per)
            table.add_row(name, unit, _shown(ours), _shown(theirs), _ratio(ours, theirs), target)
        failures = [_failures(by_server, name) for name in names]
        table.add_row(f"{measure.name}: failed", "", *failures, "", "0", end_section=True)


def _median(by_server: dict[str, list[Sample]], server: str, field: str) -> float | None:
    found = by_server.get(server)
    return median(getattr(sample, field) for sample in found) if found else None


def _failures(by_server: dict[str, list[Sample]], server: str) -> str:
    found = by_server.get(server)
    return str(sum(len(sample.failures) for sample in found)) if found else "–"


def _shown(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _ratio(ours: float | None, theirs: float | None) -> str:
    return f"{ours / theirs:.2f}" if ours is not None and theirs else "–"


def write_json(document: dict[str, Any]) -> Path:
    """Under benchmarks/results, with the time in its name."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / time.strftime("frontend-%Y%m%d-%H%M%S.json")
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")
    return path


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="CPU of the gateway process.")
    parser.add_argument("--tokenizer", default=DEFAULT_TOKENIZER, metavar="NAME_OR_PATH")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS)
    parser.add_argument("--dynamo", type=Path, metavar="PYTHON_OF_VENV")
    parser.add_argument("--dynamo-model", type=Path, metavar="DIR")
    parser.add_argument("--before", type=Path, metavar="DIR", help="a source tree to compare with")
    arguments = parser.parse_args()
    if bool(arguments.dynamo) != bool(arguments.dynamo_model):
        parser.error("--dynamo and --dynamo-model go together")
    if arguments.dynamo and arguments.before:
        parser.error("there is one rival: --dynamo or --before")
    arguments.names = ("lockgate", "before" if arguments.before else "dynamo")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    parts = set(arguments.only)
    console = Console()
    table = Table("", "", *arguments.names, "ratio", "target", title="CPU of the gateway process")
    for column in table.columns[2:]:
        column.justify = "right"
    document: dict[str, Any] = {"machine": machine(), "rounds": arguments.rounds}
    if at_full_speed := parts & {"streams", "short", "sequence"}:
        document |= run_group(arguments, FULL_SPEED, at_full_speed, table, console)
    if "paced" in parts:
        document["paced"] = run_group(arguments, LIKE_A_GPU, {"paced"}, table, console)
    if "start" in parts:
        document["start_seconds"] = add_starts(table, settings_of(arguments, FULL_SPEED))
    console.print(table)
    console.print(f"written to {write_json(document)}")


def run_group(
    arguments: argparse.Namespace, pace: Pace, parts: set[str], table: Table, console: Console
) -> dict[str, Any]:
    """Start the servers, measure, fill in the table. Returns all that was measured."""
    found: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(gateway(settings_of(arguments, pace)))]
        if arguments.dynamo:
            peer = dynamo(arguments.dynamo, arguments.dynamo_model, speedup=pace.speedup)
            servers.append(stack.enter_context(peer))
        if arguments.before:
            tree = arguments.before.resolve()
            earlier = gateway(settings_of(arguments, pace), tree=tree, name="before")
            servers.append(stack.enter_context(earlier))
        samples = run_rounds(servers, parts, arguments.rounds, console)
        fill_table(table, samples, arguments.names)
        found["samples"] = {
            name: {
                server: [asdict(sample) for sample in taken] for server, taken in taken_by.items()
            }
            for name, taken_by in samples.items()
        }
        if "sequence" in parts:
            found["sequence"] = add_sequence(table, servers, arguments.names)
        found["memory_bytes"] = add_memory(table, servers, arguments.names)
    return found


def settings_of(arguments: argparse.Namespace, pace: Pace) -> dict[str, str]:
    return {
        "model.tokenizer": arguments.tokenizer,
        "engine.max_num_seqs": "256",
        "engine.scripted.step_ms": pace.step_ms,
    }


def add_sequence(table: Table, servers: list[RunningServer], names: Names) -> dict[str, Any]:
    """Run the long sequence on every server."""
    results = {server.name: run_sequence(server) for server in servers}
    failed = [str(len(results[name].failures)) if name in results else "–" for name in names]
    opened = [str(results[name].connections) if name in results else "–" for name in names]
    title = f"{SEQUENCE_STREAMS} streams in sequence"
    table.add_row(f"{title}: failed", "", *failed, "", "0")
    table.add_row(f"{title}: connections", "", *opened, "", "1", end_section=True)
    return {
        name: {"failures": result.failures, "connections": result.connections}
        for name, result in results.items()
    }


def add_memory(table: Table, servers: list[RunningServer], names: Names) -> dict[str, int]:
    """Resident memory after all the load."""
    found = {server.name: server.memory_bytes() for server in servers}
    megabytes = [found[name] / 1e6 if name in found else None for name in names]
    shown = [_shown(value) for value in megabytes]
    table.add_row("memory after the load", "MB", *shown, _ratio(*megabytes), "", end_section=True)
    return found


def add_starts(table: Table, settings: dict[str, str]) -> list[float]:
    """Start the gateway several times while its engine takes long to load."""
    seconds = [time_of_start(settings) for _ in range(STARTS)]
    table.add_row(
        f"start to /health/live, median of {STARTS}", "s", _shown(median(seconds)), "–", "", "≤ 1.5"
    )
    return seconds


if __name__ == "__main__":
    main()
