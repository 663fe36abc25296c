"""The peer: llama.cpp's own server, on the same model, threads and context as ours.

It is built by whoever wants the comparison; see README.md.
"""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from comparison import PEER
from server import RunningServer, ServerDied, free_port, running, wait_for
from sessions import Ask, Client, Endpoint, run_sessions
from words import Words

START_SECONDS = 180.0
PROBE_WORDS = 600
WITHOUT_REPACKING = "--no-repack"


@dataclass
class LlamaServer:
    """How to start it. `num_kv_tokens` is the context that all its slots share.

    Where it dies of a signal it is started once more without repacked weights, and so every later
    time: llama.cpp's AMX kernels do not run on every virtual machine that shows AMX.
    """

    binary: Path
    model: Path
    num_slots: int
    num_kv_tokens: int
    num_threads: int
    extra: tuple[str, ...] = ()
    report: Callable[[str], None] = field(default=print)
    _fallback: tuple[str, ...] = ()

    @contextlib.contextmanager
    def start(self) -> Iterator[RunningServer]:
        """A server that is ready and has answered a long prompt."""
        with contextlib.ExitStack() as stack:
            try:
                server = stack.enter_context(self._started())
            except ServerDied as error:
                if error.returncode >= 0 or self._fallback:
                    raise
                self._fallback = (WITHOUT_REPACKING,)
                self.report(f"{PEER} died of signal {-error.returncode}: {WITHOUT_REPACKING} now")
                server = stack.enter_context(self._started())
            yield server

    def command(self, port: int) -> list[str]:
        """Slots, one KV cache for all of them, and the caches that it has by itself."""
        options = {
            "-m": str(self.model),
            "-np": str(self.num_slots),
            "-c": str(self.num_kv_tokens),
            "-t": str(self.num_threads),
            "-tb": str(self.num_threads),
            "--host": "127.0.0.1",
            "--port": str(port),
        }
        switches = ["--kv-unified", "--cont-batching", "--cache-prompt", "--no-webui"]
        pairs = [text for pair in options.items() for text in pair]
        return [str(self.binary), *pairs, *switches, *self._fallback, *self.extra]

    @contextlib.contextmanager
    def _started(self) -> Iterator[RunningServer]:
        port = free_port()
        with running(self.command(port), os.environ) as process:
            wait_for(port, "/health", START_SECONDS, process=process)
            _probe(port, process)
            yield RunningServer(PEER, process.pid, port, self.model.stem)


def _probe(port: int, process: "subprocess.Popen[bytes]") -> None:
    """A prompt that is long enough to go through the kernels for whole batches."""
    content = Words("probe").take(PROBE_WORDS)
    ask = Ask([{"role": "user", "content": content}], max_tokens=2)

    async def session(client: Client) -> None:
        await client.ask(ask)

    result = run_sessions(Endpoint(port, {}), [session], timeout=START_SECONDS)
    if not result.failures:
        return
    with contextlib.suppress(subprocess.TimeoutExpired):
        raise ServerDied(process.wait(timeout=1.0))
    raise RuntimeError(f"{PEER} does not answer: {result.failures[0]}")
