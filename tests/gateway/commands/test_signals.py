"""Signals at bad moments: an end in time, no exception in the log, and nothing left."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from gateway.observability.background_writer import MAX_PENDING_BYTES
from runtime.processes import is_alive
from tests.kit.chat.answers import CHAT, HI
from tests.kit.command_line import SCRIPTED, environment, greeting, not_ignored, posix
from tests.kit.raw_http import head, responses
from tests.kit.serving import PATIENCE, RunningServer, wait_for

pytestmark = posix

SIGNALS = [signal.SIGTERM, signal.SIGINT, 1]
BUSY_THREADS = """
import asyncio, sys, threading, time
import gateway.models.served_model as served_model

async def load(self, path):
    await asyncio.to_thread(time.sleep, 60)

served_model.ServedModel.load = load
threading.Thread(target=time.sleep, args=(60,)).start()
from gateway.__main__ import main
sys.exit(main())
"""


class Server:
    """`lockgate serve` whose log goes to a file, or to nobody."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        self.process = process
        self.folder = folder
        port = re.findall(r":(\d+)/v1", greeting(process))[0]
        self.client = RunningServer(int(port))
        self.children = psutil.Process(process.pid).children(recursive=True)

    def ends(self, number: int, times: int = 1) -> tuple[int, float]:
        """Exit code after so many signals, and seconds from the last one to it."""
        self.process.send_signal(number)
        if times == 2:
            wait_for(self.has_noticed)
            self.process.send_signal(number)
        sent = time.monotonic()
        return self.process.wait(PATIENCE), time.monotonic() - sent

    def has_noticed(self) -> bool:
        is_over = self.process.poll() is not None
        return is_over or "server_drains" in (self.folder / "log").read_text()

    def left(self) -> list[object]:
        """Processes and files that outlive it."""
        wait_for(lambda: not any(map(is_alive, self.children)))
        return list(self.folder.glob("lockgate-*"))

    def exceptions(self) -> list[str]:
        lines = (self.folder / "log").read_text().splitlines()
        assert all(line.startswith("{") for line in lines)
        return [line for line in lines if "exception" in json.loads(line)]


@contextmanager
def started(
    folder: Path,
    *options: str,
    program: tuple[str, ...] = ("-m", "gateway"),
    log: int | None = None,
) -> Iterator[Server]:
    """`log` is a descriptor for its log, instead of the file."""
    command = [sys.executable, *program, "serve", *SCRIPTED, "--set", "engine.scripted.step_ms=10"]
    with not_ignored("SIGHUP"), open(folder / "log", "w") as file:
        process = subprocess.Popen(
            [*command, *options],
            cwd=folder,
            env=environment(TMPDIR=str(folder)),
            stdout=subprocess.PIPE,
            stderr=file if log is None else log,
            text=True,
        )
    with process:
        try:
            server = Server(process, folder)
            with server.client.http:
                yield server
        finally:
            process.kill()


def body(max_tokens: int, stream: bool) -> bytes:
    wanted = {"model": "scripted", "messages": HI, "max_tokens": max_tokens, "stream": stream}
    return json.dumps(wanted).encode()


def chat(
    server: RunningServer, *, stream: bool, part: float = 1, num_tokens: int = 3000
) -> socket.socket:
    """A chat of which a part was sent; it takes half a minute unless it has fewer tokens."""
    sent = body(num_tokens, stream)
    length = f"Content-Length: {len(sent)}"
    client = server.connect()
    expects = ("Content-Type: application/json", "Expect: 100-continue")
    client.sendall(head(f"POST {CHAT} HTTP/1.1", "Host: x", length, *expects))
    assert client.recv(4096).startswith(b"HTTP/1.1 100 ")  # the body is being read
    client.sendall(sent[: round(part * len(sent))])
    return client


def streaming(server: RunningServer) -> socket.socket:
    client = chat(server, stream=True)
    assert client.recv(10)
    return client


def waiting(server: RunningServer) -> socket.socket:
    return chat(server, stream=False)


def uploading(server: RunningServer) -> socket.socket:
    return chat(server, stream=True, part=0.5)


def beginning(server: RunningServer) -> socket.socket:
    client = server.connect()
    client.sendall(b"GET /he")
    return client


def idle(server: RunningServer) -> socket.socket:
    client = server.connect()
    client.sendall(head("GET /health/live HTTP/1.1", "Host: x"))
    assert client.recv(10)
    return client


MOMENTS = [streaming, waiting, uploading, beginning, idle]


def is_ready(server: Server) -> bool:
    return server.client.http.get("/health/ready").status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS, ids=["TERM", "INT", "HUP"])
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("times", [1, 2])
def test_it_ends_in_time_whatever_its_clients_do(
    tmp_path: Path, number: int, moment: Callable[[RunningServer], socket.socket], times: int
):
    timeout = "0.5" if times == 1 else "20"
    with started(tmp_path, "--set", f"server.drain_timeout={timeout}") as server:
        wait_for(lambda: is_ready(server))
        with moment(server.client):
            code, seconds = server.ends(number, times)
        assert code == 0
        assert seconds < (5 if times == 1 else 1.5)
        assert server.left() == []
        assert server.exceptions() == []


@pytest.mark.slow
def test_a_body_that_does_not_come_is_given_up_at_the_end_of_the_drain(tmp_path: Path):
    with started(tmp_path, "--set", "server.drain_timeout=0.3") as server:
        wait_for(lambda: is_ready(server))
        with uploading(server.client) as client:
            server.process.terminate()
            received = b"".join(iter(lambda: client.recv(65_536), b""))
        ((answer, text),) = responses(received)
        assert (answer.status, answer.getheader("connection")) == (503, "close")
        assert json.loads(text)["error"]["code"] == "engine_unavailable"
        assert server.process.wait(PATIENCE) == 0
        assert server.exceptions() == []


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_threads_at_work_do_not_hold_up_the_end(tmp_path: Path, times: int):
    with started(tmp_path, program=("-c", BUSY_THREADS)) as server:
        wait_for(lambda: server.client.http.get("/health/live").status_code == 200)
        code, seconds = server.ends(signal.SIGTERM, times)
        assert (code, server.left()) == (0, [])
        assert seconds < 3
        assert server.exceptions() == []


def test_a_log_that_nobody_reads_stops_nothing(tmp_path: Path):
    """Neither requests nor the end; and it is said how much was lost."""
    reading, writing = os.pipe()
    with (
        open(reading, "rb") as reader,
        started(tmp_path, "--set", "log.prompts=true", log=writing) as server,
    ):
        os.close(writing)
        wait_for(lambda: is_ready(server))
        text = "x" * 50_000
        for _ in range(3 * MAX_PENDING_BYTES // len(text)):
            answer = server.client.http.post("/tokenize", json={"prompt": text})
            assert answer.status_code == 200
        assert server.client.http.get("/health/live").elapsed.total_seconds() < 1
        lost = server.client.metric("log_lines_lost_total")
        assert lost > 0
        with chat(server.client, stream=True, num_tokens=5) as client:
            received = b""
            while b"[DONE]" not in received:
                received += client.recv(65_536)
        code, seconds = server.ends(signal.SIGTERM)
        assert (code, server.left()) == (0, [])
        assert seconds < 4
        assert reader.read(1) == b"{"
