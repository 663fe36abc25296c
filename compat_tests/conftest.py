"""The server as its users run it: the command, in a process of its own, with the default model."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

MODEL = "qwen2.5-coder-0.5b-instruct"
START_SECONDS = 300.0
"""The first start on a machine pulls the model."""

PYTHON = os.environ.get("LOCKGATE_PYTHON", sys.executable)
"""Where the server is installed; tests of clients run in environments of the clients' own."""


def pytest_configure(config: pytest.Config) -> None:
    """What servers remember is not kept among the data of the one who runs the tests. Processes of
    tests inherit it."""
    folder = tempfile.TemporaryDirectory(prefix="lockgate-tests-", ignore_cleanup_errors=True)
    os.environ["LOCKGATE_DATA"] = folder.name
    config.add_cleanup(folder.cleanup)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder is slow, as some of the others are."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("slow")


class Server:
    """A running `lockgate serve`."""

    def __init__(self, process: "subprocess.Popen[str]", url: str) -> None:
        self.process = process
        self.url = url
        self.http = httpx.Client(base_url=url, timeout=60)

    def engines(self) -> list[psutil.Process]:
        """Engine processes of this server that run."""
        return [
            child
            for child in psutil.Process(self.process.pid).children(recursive=True)
            if "runtime.worker" in child.cmdline()
        ]

    def stats(self) -> dict[str, float]:
        stats: dict[str, float] = self.http.get("/health").json()["stats"]
        return stats


def environment() -> dict[str, str]:
    """Without settings of the one who runs the tests, and without what earlier servers have left
    on disk."""
    clean = {key: value for key, value in os.environ.items() if "LOCKGATE__" not in key}
    return {**clean, "LOCKGATE__ENGINE__PREFIX_CACHE_DISK_GB": "0"}


@contextmanager
def serve(*arguments: str) -> Iterator[Server]:
    """Run `python -m gateway serve` on a free port until the end of the block."""
    server = None
    process = subprocess.Popen(
        [PYTHON, "-m", "gateway", "serve", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
        env=environment(),
    )
    assert process.stdout is not None
    try:
        found = re.search(r"http://[^/]+", process.stdout.readline())
        assert found, "the server did not say where it listens"
        server = Server(process, found[0])
        until(lambda: server.http.get("/health/ready").status_code == 200)
        yield server
    finally:
        if server is not None:
            server.http.close()
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
        process.stdout.close()


def until(condition, seconds: float = START_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The default model on llama.cpp."""
    if subprocess.run([PYTHON, "-m", "runtime.llama_library"], capture_output=True).stdout == b"[]":
        pytest.skip("no llama.cpp library is installed")
    with serve() as running:
        yield running
