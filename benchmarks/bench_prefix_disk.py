"""What are prefixes on disk worth? After a restart, beside a stream, and where memory is short.

    scripts/bench prefix_disk --model PATH_OF_A_GGUF_FILE
    scripts/bench prefix_disk --model PATH --conversations 12 --in-memory 2 --tokens 500

Times are until the first token. "restart": a prompt that is computed, and the same one after a
restart of the server. "turns": conversations that take turns, when memory has room for a few; each
has been asked once before it is measured. "stream": the longest gap of a stream while a prompt
comes that nobody knows, one that is on disk, and none.
"""

import argparse
import asyncio
import itertools
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from machine import machine
from report import report, write_json
from server import gateway
from sessions import Answer, Ask, Client, Endpoint, run_sessions
from words import Words

TIMEOUT = 3600.0
ROLE_TOKENS = 30
"""What the template adds to a prompt of the default model."""


class Bench:
    """Servers with and without a folder for prefixes, one after the other."""

    def __init__(self, arguments: argparse.Namespace, folder: str) -> None:
        self._arguments = arguments
        self._folder = folder
        self._endpoint: Endpoint | None = None

    @contextmanager
    def server(self, *, disk: bool, memory_gb: float = 1.0) -> Iterator[None]:
        """A server that has just been started and has computed something else."""
        settings = {
            "engine.name": "llama_cpp",
            "engine.max_num_seqs": "4",
            "engine.max_model_len": str(self._arguments.tokens + 1024),
            "engine.num_kv_tokens": str(2 * self._arguments.tokens + 4096),
            "engine.prefix_cache_gb": str(memory_gb),
            "engine.prefix_cache_disk_gb": "20" if disk else "0",
            "engine.prefix_cache_folder": self._folder,
            "model.name_or_path": self._arguments.model,
            "model.served_name": "scripted",
        }
        with gateway(settings, timeout=120) as server:
            self._endpoint = Endpoint(server.port, {"model": server.model, "temperature": 0})
            self.ask("warm up")
            yield

    def ask(self, *prompts: str) -> list[Answer]:
        """One question after the other."""

        async def session(client: Client) -> None:
            for prompt in prompts:
                await client.ask(_ask(prompt, max_tokens=1))

        return self._run(session)

    def stream_beside(self, prompt: str) -> Answer:
        """A stream, and a prompt that comes when it has begun."""

        async def stream(client: Client) -> None:
            await client.ask(_ask("Count to a thousand.", max_tokens=200, begun=begun))

        async def question(client: Client) -> None:
            await begun.wait()
            if prompt:
                await client.ask(_ask(prompt, max_tokens=1))

        begun = asyncio.Event()
        answers = self._run(stream, question)
        return max(answers, key=lambda answer: answer.completion_tokens)

    def _run(self, *sessions: Any) -> list[Answer]:
        assert self._endpoint is not None, "no server runs"
        result = run_sessions(self._endpoint, sessions, timeout=TIMEOUT)
        if result.failures:
            raise SystemExit(f"a request failed: {result.failures[0]}")
        return result.answers


def _ask(prompt: str, *, max_tokens: int, begun: asyncio.Event | None = None) -> Ask:
    message = {"role": "user", "content": prompt}
    return Ask([message], max_tokens, on_text=begun.set if begun else None)


def _prompt(number: int | str, num_tokens: int) -> str:
    return f"{number} {Words(str(number)).take(num_tokens - ROLE_TOKENS)}"


def after_restart(bench: Bench, num_tokens: int) -> dict[str, Any]:
    prompt = _prompt("restart", num_tokens)
    with bench.server(disk=True):
        computed, in_memory = bench.ask(prompt, prompt)
    with bench.server(disk=True):
        [from_disk] = bench.ask(prompt)
    return {
        "prompt_tokens": computed.prompt_tokens,
        "tokens_from_disk": from_disk.cached_tokens,
        "computed_s": computed.ttft,
        "from_disk_s": from_disk.ttft,
        "from_memory_s": in_memory.ttft,
        "disk_to_computed": from_disk.ttft / computed.ttft,
    }


def in_turns(bench: Bench, arguments: argparse.Namespace, *, disk: bool) -> float:
    """Mean time of the second round. Without a disk, twice as many conversations as memory holds
    are as good as all: the one whose turn it is has always left."""
    count = arguments.conversations if disk else 2 * arguments.in_memory
    prompts = [_prompt(number, arguments.tokens) for number in range(count)]
    memory_gb = arguments.in_memory * arguments.tokens * arguments.bytes_per_token / 1e9
    with bench.server(disk=disk, memory_gb=memory_gb):
        bench.ask(*prompts)
        return statistics.mean(answer.ttft for answer in bench.ask(*prompts))


def beside_a_stream(bench: Bench, num_tokens: int) -> dict[str, Any]:
    known = _prompt("stream", num_tokens)
    with bench.server(disk=True):
        bench.ask(known)
    with bench.server(disk=True):
        alone, from_disk = (_longest_gap(bench.stream_beside(each)) for each in ("", known))
        computed = _longest_gap(bench.stream_beside(_prompt("unknown", num_tokens)))
    return {
        "alone_ms": alone,
        "from_disk_ms": from_disk,
        "computed_ms": computed,
    }


def _longest_gap(answer: Answer) -> float:
    times = answer.event_times
    return 1e3 * max(later - earlier for earlier, later in itertools.pairwise(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="a GGUF file")
    parser.add_argument("--tokens", type=int, default=4000, help="of a prompt")
    parser.add_argument("--conversations", type=int, default=50)
    parser.add_argument("--in-memory", type=int, default=5, help="conversations that memory holds")
    parser.add_argument("--bytes-per-token", type=int, default=12_288, help="of keys and values")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(arguments, folder)
        restart = after_restart(bench, arguments.tokens)
        stream = beside_a_stream(bench, arguments.tokens)
        with_disk, without = (in_turns(bench, arguments, disk=disk) for disk in (True, False))
    turns = {
        "with_disk_s": with_disk,
        "without_s": without,
        "with_to_without": with_disk / without,
    }
    for title, row in (("restart", restart), ("turns", turns), ("longest gap", stream)):
        report(title, [row], None)
    settings = {key: value for key, value in vars(arguments).items() if key != "model"}
    result = {"restart": restart, "turns": turns, "longest_gap": stream, **settings}
    write_json("prefix_disk", {**result, "machine": machine()})


if __name__ == "__main__":
    main()
