"""What does changing models cost? The swap itself, and a stream of one model while another loads.

    scripts/bench swap --first PATH_OF_A_GGUF_FILE --second PATH_OF_ANOTHER
    scripts/bench swap --first PATH --second PATH --rounds 9

"swap": seconds from a request until its first token, when its model is not loaded: bare, with
nothing to unload, and in place of the other model, for which there is no room beside it. "stream":
milliseconds between the tokens of a stream of the first model while it is alone, and while the
second one loads beside it. Both models need a chat template.
"""

import argparse
import asyncio
import itertools
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from machine import machine
from report import report, write_json
from server import gateway
from sessions import Answer, Ask, Client, Endpoint, SessionsResult, run_sessions
from stats import percentile

TIMEOUT = 600.0
STREAMED = 300
"""Tokens of a stream."""
FIRST, SECOND = "first", "second"


class Bench:
    """Servers with two models that are loaded on demand."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._paths = {FIRST: arguments.first, SECOND: arguments.second}

    @contextmanager
    def server(self, *, room_for: int) -> Iterator[Endpoint]:
        """A server that has just been started, with memory for so many models at once."""
        settings = {
            "engine.name": "llama_cpp",
            "engine.max_num_seqs": "4",
            "engine.max_model_len": "2048",
            "engine.num_kv_tokens": "8192",
            "loading.max_memory_gb": str(room_for + 0.5),
        }
        for name, path in self._paths.items():
            settings |= {f"models.{name}.name_or_path": path, f"models.{name}.memory_gb": "1"}
        with gateway(settings, model=FIRST) as server:
            yield Endpoint(server.port, {"temperature": 0})

    def swaps(self, first: str, second: str) -> list[float]:
        """Times of one server: bare of the first model, the second in place of it, and back."""
        with self.server(room_for=1) as endpoint:
            return [
                run(endpoint, lambda client, name=name: client.ask(ask(name, 1)))[0].ttft
                for name in (first, second, first)
            ]

    def gaps(self) -> tuple[list[float], list[float]]:
        """The gaps of a stream that is alone, and of one beside which the other model loads."""
        with self.server(room_for=2) as endpoint:
            run(endpoint, lambda client: client.ask(ask(FIRST, 1)))
            [alone] = run(endpoint, lambda client: client.ask(ask(FIRST, STREAMED)))
            return gaps_of(alone), self._beside_a_load(endpoint)

    def _beside_a_load(self, endpoint: Endpoint) -> list[float]:
        begun = asyncio.Event()

        async def stream(client: Client) -> None:
            await client.ask(ask(FIRST, STREAMED, begun))

        async def load(client: Client) -> None:
            await begun.wait()
            await client.ask(ask(SECOND, 1))

        answers = run(endpoint, stream, load)
        streamed, loaded = sorted(answers, key=lambda answer: -answer.completion_tokens)
        if streamed.event_times[-1] < loaded.first_text_at:
            raise SystemExit("the stream was over before the other model was loaded")
        return gaps_of(streamed, loaded.sent_at, loaded.first_text_at)


def ask(model: str, max_tokens: int, begun: asyncio.Event | None = None) -> Ask:
    message = {"role": "user", "content": "Count to a thousand, one number on each line."}
    return Ask([message], max_tokens, on_text=begun.set if begun else None, model=model)


def run(endpoint: Endpoint, *sessions: Any) -> list[Answer]:
    result: SessionsResult = run_sessions(endpoint, sessions, timeout=TIMEOUT)
    if result.failures:
        raise SystemExit(f"a request failed: {result.failures[0]}")
    return result.answers


def gaps_of(answer: Answer, start: float = 0.0, end: float = float("inf")) -> list[float]:
    """Milliseconds between the tokens that came between these times."""
    times = itertools.pairwise(answer.event_times)
    return [1e3 * (after - before) for before, after in times if start <= after <= end]


def swap_row(bare: list[float], swap: list[float]) -> dict[str, float]:
    alone, instead = statistics.median(bare), statistics.median(swap)
    return {"bare_s": alone, "swap_s": instead, "swap_to_bare": instead / alone}


def stream_row(alone: list[float], beside: list[float]) -> dict[str, float]:
    return {
        **{f"alone_{name}_ms": value for name, value in _spread(alone).items()},
        **{f"beside_{name}_ms": value for name, value in _spread(beside).items()},
        "p95_to_p95": percentile(beside, 95) / percentile(alone, 95),
    }


def _spread(gaps: list[float]) -> dict[str, float]:
    return {"p50": percentile(gaps, 50), "p95": percentile(gaps, 95), "longest": max(gaps)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--first", required=True, help="a GGUF file")
    parser.add_argument("--second", required=True, help="another GGUF file, of about its size")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    bench = Bench(arguments)
    bare: dict[str, list[float]] = {FIRST: [], SECOND: []}
    swap: dict[str, list[float]] = {FIRST: [], SECOND: []}
    alone: list[float] = []
    beside: list[float] = []
    for _ in range(arguments.rounds):
        for one, other in ((FIRST, SECOND), (SECOND, FIRST)):
            times = bench.swaps(one, other)
            bare[one].append(times[0])
            swap[other].append(times[1])
            swap[one].append(times[2])
        found = bench.gaps()
        alone += found[0]
        beside += found[1]
    swapped = {name: swap_row(bare[name], swap[name]) for name in bare}
    streamed = stream_row(alone, beside)
    for name, row in swapped.items():
        report(f"swap to the {name}", [row], None)
    report("stream", [streamed], None)
    write_json("swap", {"swap": swapped, "stream": streamed, "machine": machine()})


if __name__ == "__main__":
    main()
