"""Commands of `lockgate` in processes of their own, without the settings of who runs the tests."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kit.root import ROOT

SCRIPTED = ("--engine", "scripted", "--port", "0")
_started: list[subprocess.Popen[str]] = []


def environment(**variables: str) -> dict[str, str]:
    """The environment without settings of the one who runs the tests."""
    clean = {name: value for name, value in os.environ.items() if "LOCKGATE" not in name.upper()}
    return {**clean, "PYTHONPATH": str(ROOT), **variables}


@contextmanager
def hangups_not_ignored() -> Iterator[None]:
    """What is started inside ends at a hangup, under nohup too: a signal that is ignored is ignored
    by children as well, and Lockgate respects that."""
    if sys.platform == "win32":
        yield
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def start(folder: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", *arguments],
        cwd=folder,
        env=environment(**variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
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
