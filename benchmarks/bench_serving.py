"""Our server against llama-server: the same model, threads, context, requests and client.

Both are measured in turn, the order changing from round to round. `scripts/bench serving [--peer
PATH_OF_LLAMA_SERVER]`; see README.md for what the workloads and measures are.
"""

import argparse
import json
import math
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil
from comparison import OURS, PEER, Row, compare
from fleet import Fleet, Load, Start, Taken
from llama_server import START_SECONDS, LlamaServer
from machine import machine
from measures import RATE, Sample
from plot import MISSING, draw
from rich.console import Console
from rich.table import Table
from server import ROOT, RunningServer, gateway
from sessions import Answer, Endpoint
from workloads import WORKLOADS, Shared, Short, Workload

from runtime.models.store import ModelStore

DEFAULT_MODEL = "qwen2.5-coder-0.5b-instruct"
RESULTS = ROOT / "benchmarks" / "results"
STREAMS = (1, 4, 8, 16)
NUM_SLOTS = 16
NUM_KV_TOKENS = 32_768
FILE_WIDTH = 110  # columns

SAMPLING: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "greedy": {OURS: {"temperature": 0}, PEER: {"temperature": 0}},
    "default": {
        OURS: {"temperature": 1},
        PEER: {"temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0},
    },
}
"""Fields of sampling for each server, so that both do the same work."""


def run_rounds(
    fleet: Fleet, loads: list[Load], rounds: int, timeout: float, console: Console
) -> list[Taken]:
    """Every load on every server in turn; who goes first changes from round to round."""
    taken = []
    for number in range(1, rounds + 1):
        for load in loads:
            for name in fleet.names if number % 2 else reversed(fleet.names):
                one = fleet.measure(name, load, number, timeout)
                taken.append(one)
                line = f"round {number}/{rounds}  {_line(one)}"
                console.print(line, style="dim", soft_wrap=True)
    return taken


def _line(taken: Taken) -> str:
    result = taken.result
    rate = taken.sample.get(RATE.name, result.num_tokens / result.seconds)
    return (
        f"{taken.server:12}  {taken.load!s:14}  {rate:7.1f} tokens/s  {result.seconds:6.1f} s"
        f"  failed {len(result.failures)}  client {result.client_cpu_seconds / result.seconds:4.0%}"
        f"  load {psutil.getloadavg()[0]:.1f}"
    )


def rows_of(loads: list[Load], taken: list[Taken]) -> list[Row]:
    """The rows of the table, in the order of the loads."""
    rows = []
    for load in loads:
        samples: dict[str, list[Sample]] = {}
        for one in taken:
            if one.load == load:
                samples.setdefault(one.server, []).append(one.sample)
        rows += compare(load.workload.name, load.streams, samples)
    return rows


def table_of(rows: list[Row], title: str) -> Table:
    table = Table("", "", "", OURS, PEER, "ratio", "target", title=title)
    for column in table.columns[3:6]:
        column.justify = "right"
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        is_last = following is None or _block(following) != _block(row)
        table.add_row(
            f"{row.workload} × {row.streams}",
            row.measure,
            row.unit,
            _shown(row.ours),
            _shown(row.peer),
            "–" if row.ratio is None else f"{row.ratio:.2f}",
            _verdict(row),
            end_section=is_last,
        )
    return table


def _block(row: Row) -> tuple[str, int]:
    return row.workload, row.streams


def _shown(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _verdict(row: Row) -> str:
    if row.is_met is None:
        return row.target
    return f"{row.target}  " + ("[green]met[/]" if row.is_met else "[red]missed[/]")


def document_of(
    arguments: argparse.Namespace, title: str, rows: list[Row], taken: list[Taken]
) -> dict[str, Any]:
    """Everything that was measured, times of events included."""
    return {
        "title": title,
        "machine": machine(),
        "arguments": {key: _plain(value) for key, value in vars(arguments).items()},
        "rows": [asdict(row) for row in rows],
        "loads": [_taken_document(one) for one in taken],
    }


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _taken_document(taken: Taken) -> dict[str, Any]:
    result = taken.result
    return {
        "workload": taken.load.workload.name,
        "streams": taken.load.streams,
        "server": taken.server,
        "seconds": result.seconds,
        "client_cpu_seconds": result.client_cpu_seconds,
        "server_cpu_seconds": result.server_cpu_seconds,
        "sample": {key: None if math.isnan(v) else v for key, v in taken.sample.items()},
        "failures": result.failures,
        "answers": [_answer_document(answer, result.started_at) for answer in result.answers],
    }


def _answer_document(answer: Answer, started_at: float) -> dict[str, Any]:
    """Times in milliseconds since the beginning of the load."""
    times = [round((when - started_at) * 1e3, 1) for when in (answer.sent_at, *answer.event_times)]
    document = asdict(answer)
    del document["event_times"]
    return {**document, "sent_at": times[0], "event_times": times[1:]}


def write(document: dict[str, Any], rows: list[Row], console: Console) -> None:
    """A file of JSON and a picture under benchmarks/results, with the time in their names."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / time.strftime("serving-%Y%m%d-%H%M%S.json")
    path.write_text(json.dumps(document, allow_nan=False), encoding="utf-8")
    console.print(f"written to {path}", soft_wrap=True)
    picture = path.with_suffix(".png")
    try:
        draw(rows, picture, subtitle=document["title"])
    except ImportError:
        console.print(MISSING, markup=False)
    else:
        console.print(f"drawn to {picture}", soft_wrap=True)


def loads_of(arguments: argparse.Namespace) -> list[Load]:
    return [
        Load(_with_requests(WORKLOADS[name](), arguments.requests), streams)
        for name in arguments.only
        for streams in arguments.streams
    ]


def _with_requests(workload: Workload, num_requests: int | None) -> Workload:
    if num_requests is not None and isinstance(workload, Short | Shared):
        return replace(workload, num_requests=num_requests)
    return workload


def starts_of(arguments: argparse.Namespace, model: Path, console: Console) -> dict[str, Start]:
    """How to start each server."""

    def ours() -> AbstractContextManager[RunningServer]:
        settings = settings_of(arguments, model)
        return gateway(settings, model=model.stem, timeout=START_SECONDS)

    starts: dict[str, Start] = {OURS: ours}
    if arguments.peer:
        peer = LlamaServer(
            arguments.peer.resolve(),
            model,
            num_slots=NUM_SLOTS,
            num_kv_tokens=arguments.kv_tokens,
            num_threads=arguments.threads,
            extra=tuple(arguments.peer_arg),
            report=lambda line: console.print(line, style="yellow"),
        )
        starts[PEER] = peer.start
    return starts


def settings_of(arguments: argparse.Namespace, model: Path) -> dict[str, str]:
    """What makes ours comparable, and what the command line adds."""
    return {
        "model.name_or_path": str(model),
        "model.served_name": model.stem,
        "engine.name": "llama_cpp",
        "engine.max_num_seqs": str(NUM_SLOTS),
        "engine.num_kv_tokens": str(arguments.kv_tokens),
        "engine.llama_cpp.num_threads": str(arguments.threads),
        **dict(arguments.set),
    }


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Our server against llama-server.")
    parser.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME_OR_PATH")
    parser.add_argument("--peer", type=Path, metavar="PATH_OF_LLAMA_SERVER")
    parser.add_argument(
        "--peer-arg", action="append", default=[], metavar="ARG", help="--peer-arg=-fa ..."
    )
    parser.add_argument(
        "--set", action="append", default=[], type=_setting, metavar="SECTION.KEY=VALUE"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--kv-tokens", type=int, default=NUM_KV_TOKENS)
    parser.add_argument("--only", choices=WORKLOADS, nargs="+", default=list(WORKLOADS))
    parser.add_argument("--streams", type=int, nargs="+", default=list(STREAMS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, help="a stream, in short and shared")
    parser.add_argument("--sampling", choices=SAMPLING, default="greedy")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for one load")
    return parser.parse_args()


def _setting(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text}: SECTION.KEY=VALUE is expected")
    return key, value


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no server is left behind
    arguments = parse_arguments()
    console = Console()
    if not console.is_terminal:
        console.width = FILE_WIDTH
    model = ModelStore().find(arguments.model).path
    loads = loads_of(arguments)

    def endpoint(server: RunningServer) -> Endpoint:
        sampling = SAMPLING[arguments.sampling][server.name]
        return Endpoint(server.port, {"model": server.model, **sampling})

    with Fleet(starts_of(arguments, model, console), endpoint) as fleet:
        fleet.start(loads, console, arguments.timeout)
        taken = run_rounds(fleet, loads, arguments.rounds, arguments.timeout, console)
    rows = rows_of(loads, taken)
    title = (
        f"{model.stem}, {arguments.threads} threads, {arguments.sampling},"
        f" {arguments.rounds} round{'s' * (arguments.rounds > 1)}"
    )
    console.print(table_of(rows, title))
    write(document_of(arguments, title, rows, taken), rows, console)


if __name__ == "__main__":
    main()
