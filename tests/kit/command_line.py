"""Commands of `lockgate` in processes of their own, without the settings of who runs the tests."""

import os
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.kit.api_keys import bearer
from tests.kit.chat.answers import HI
from tests.kit.platform import IS_WINDOWS
from tests.kit.root import search_path
from tests.kit.serving import NO_TLS, PATIENCE, wait_for

SCRIPTED = ("--engine", "scripted", "--port", "0")
_started: list[subprocess.Popen[str]] = []


def environment(**variables: str) -> dict[str, str]:
    """The environment without settings of the one who runs the tests. What servers remember goes
    where the tests keep it."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if "LOCKGATE" not in name.upper() or name == "LOCKGATE_DATA"
    }
    return {**clean, "PYTHONPATH": search_path(), **variables}


@contextmanager
def not_ignored(*names: str) -> Iterator[None]:
    """What is started inside ends at these signals, under nohup and in the background too: a signal
    that is ignored is ignored by children as well, and Lockgate respects that."""
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def start(folder: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", *arguments],
        cwd=folder,
        env=environment(**variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="cp1252" if IS_WINDOWS else None,
        errors="replace" if IS_WINDOWS else None,
        text=True,
    )
    _started.append(process)
    return process


def end_what_was_left() -> None:
    """Kill what a test that failed has started and not ended."""
    while _started:
        process = _started.pop()
        if process.poll() is None:
            with process:
                process.kill()


def lockgate(
    folder: Path, *arguments: str, typed: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end."""
    process = start(folder, *arguments, **variables)
    output, errors = process.communicate(typed)
    return subprocess.CompletedProcess(arguments, process.returncode, output, errors)


def greeting(process: subprocess.Popen[str]) -> str:
    """The first line that it prints."""
    assert process.stdout is not None
    return process.stdout.readline()


ADMIN = "an-admin-key-for-tests"


posix = pytest.mark.posix("signals")


class Served:
    """`lockgate serve` in a process of its own, which an admin's key opens."""

    def __init__(self, process: "subprocess.Popen[str]", url: str, verify: ssl.SSLContext) -> None:
        self.process = process
        self.http = httpx.Client(
            base_url=url, headers=bearer(ADMIN), timeout=PATIENCE, verify=verify
        )

    def body(self, max_tokens: int) -> dict[str, object]:
        body = {"model": "scripted", "messages": HI, "max_tokens": max_tokens, "stream": True}
        return {**body, "stream_options": {"include_usage": True}}

    def is_ready(self) -> bool:
        return self.http.get("/health/ready").status_code == 200

    def ended(self) -> tuple[int, str]:
        """Exit code and log, when it has ended."""
        _, log = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, log


@contextmanager
def served(
    folder: Path, *options: str, step_ms: float = 10, verify: ssl.SSLContext = NO_TLS
) -> Iterator[Served]:
    settings = ("--set", f"engine.scripted.step_ms={step_ms}", *options)
    process = start(folder, "serve", *SCRIPTED, *settings, LOCKGATE_ADMIN_API_KEY=ADMIN)
    try:
        url = re.findall(r"https?://\S+:\d+", greeting(process))[0]
        server = Served(process, url, verify)
        with server.http:
            wait_for(server.is_ready)
            yield server
    finally:
        process.kill()
        process.communicate()
