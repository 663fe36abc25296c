"""The embedded engine through its client against a bare batch loop over the same llama.cpp library.

Same model, same prompts, same threads, greedy, alternating rounds in one run; reports the median
of each and of their ratio. `scripts/bench engine [--model PATH] [--library NAME]`.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

from report import report
from server import ROOT

from runtime.client.engine_client import EngineClient
from runtime.config.engine import EngineConfig
from runtime.config.llama_cpp import LlamaCppConfig
from runtime.llama_library.installed import installed_families
from runtime.messages.request import Request, SamplingParams
from runtime.models.store import ModelStore
from runtime.supervisor.supervisor import Supervisor

PROMPT_TOKENS = 32
DEFAULT_MODEL = "qwen2.5-coder-0.5b-instruct"


class BareProcess:
    """`bare_loop.py` in a child, without repacked weights where those kernels crash."""

    def __init__(self, model: str, library: str, num_threads: int) -> None:
        for repacks in ("1", "0"):
            script = str(Path(__file__).with_name("bare_loop.py"))
            self._process = subprocess.Popen(
                [sys.executable, script, model, library, str(num_threads), repacks],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._in, self._out = self._process.stdin, self._process.stdout
            if self._out.readline().strip() == "ready":
                return
        raise SystemExit("the bare loop does not start")

    def run(self, prompts: list[list[int]], num_tokens: int) -> float:
        self._in.write(json.dumps({"prompts": prompts, "num_tokens": num_tokens}) + "\n")
        self._in.flush()
        return float(self._out.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


async def run_engine(supervisor: Supervisor, prompts: list[list[int]], num_tokens: int) -> float:
    """Seconds from the first submission to the last token, all prompts at once."""
    sampling = SamplingParams(max_tokens=num_tokens, temperature=0.0, ignore_eos=True)
    started = time.perf_counter()
    streams = [
        supervisor.client.submit(
            [
                Request(
                    request_id=f"{time.monotonic_ns()}-{number}",
                    prompt_token_ids=prompt,
                    sampling=sampling,
                )
            ]
        )
        for number, prompt in enumerate(prompts)
    ]
    for stream in streams:
        async for _ in stream:
            pass
    return time.perf_counter() - started


def make_prompts(count: int, seed: int) -> list[list[int]]:
    generator = random.Random(seed)
    return [[generator.randrange(1000, 50_000) for _ in range(PROMPT_TOKENS)] for _ in range(count)]


async def start_engine(model: str, library: str, num_threads: int) -> Supervisor:
    llama_cpp = LlamaCppConfig(library=library, num_threads=num_threads)
    config = EngineConfig(llama_cpp=llama_cpp, prefix_cache_disk_gb=0)
    supervisor = Supervisor(config, model, EngineClient())
    await supervisor.start()
    while supervisor.client.state in ("starting", "restarting"):  # noqa: ASYNC110 -- no event
        await asyncio.sleep(0.1)
    if supervisor.client.state != "ready":
        raise SystemExit(supervisor.client.state_reason)
    return supervisor


async def measure(arguments: argparse.Namespace) -> list[dict[str, float]]:
    served = (arguments.model, arguments.library, arguments.threads)
    supervisor = await start_engine(*served)
    bare = BareProcess(*served)
    rows = []
    try:
        for num_streams in arguments.streams:
            ours, floor = [], []
            for number in range(arguments.rounds):
                prompts = make_prompts(num_streams, seed=number)
                total = num_streams * arguments.tokens
                floor.append(total / bare.run(prompts, arguments.tokens))
                ours.append(total / await run_engine(supervisor, prompts, arguments.tokens))
            ratios = [a / b for a, b in zip(ours, floor, strict=True)]
            rows.append(
                {
                    "streams": num_streams,
                    "engine_tokens_per_second": statistics.median(ours),
                    "bare_tokens_per_second": statistics.median(floor),
                    "ratio": statistics.median(ratios),
                }
            )
    finally:
        bare.close()
        await supervisor.stop()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME_OR_PATH")
    parser.add_argument("--library", default=installed_families()[0], help="llama.cpp, or ik's")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    arguments.model = str(ModelStore().find(arguments.model).path)
    rows = asyncio.run(measure(arguments))
    report("engine through its client / bare llama.cpp loop", rows, arguments.json)


if __name__ == "__main__":
    main()
