"""Servers to be measured: started as child processes on a free port, ended by their ids."""

import contextlib
import functools
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO

import psutil

ROOT = Path(__file__).resolve().parent.parent
STOP_SECONDS = 10.0
POLL_SECONDS = 0.005


@dataclass(frozen=True)
class RunningServer:
    """`pid` is the process whose CPU time is measured; `model` is the name to ask for."""

    name: str
    pid: int
    port: int
    model: str

    def cpu_seconds(self) -> float:
        """User and system time of that process so far, its children's not included."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def tree_cpu_seconds(self) -> float:
        """User and system time so far of that process and all that it has started and not lost."""
        process = psutil.Process(self.pid)
        times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
        return float(sum(each.user + each.system for each in times))

    def memory_bytes(self) -> int:
        """Resident memory of that process."""
        return int(psutil.Process(self.pid).memory_info().rss)


class ServerDied(Exception):
    """A server's process ended while it was needed. `returncode` is negative after a signal."""

    def __init__(self, returncode: int) -> None:
        super().__init__(f"the server ended with status {returncode}")
        self.returncode = returncode


@contextlib.contextmanager
def gateway(
    settings: Mapping[str, str],
    *,
    model: str = "scripted",
    timeout: float = 60.0,
    tree: Path = ROOT,
    name: str = "lockgate",
) -> Iterator[RunningServer]:
    """The gateway of a source tree, ready for requests, with the scripted engine by default.

    `settings` are dotted paths and values (`{"engine.max_num_seqs": "256"}`); `model` is the name
    under which they have it served.
    """
    with starting_gateway(settings, model=model, tree=tree, name=name) as server:
        wait_for(server.port, "/health/ready", timeout)
        yield server


@contextlib.contextmanager
def starting_gateway(
    settings: Mapping[str, str],
    *,
    model: str = "scripted",
    tree: Path = ROOT,
    name: str = "lockgate",
) -> Iterator[RunningServer]:
    """Like `gateway`, at the moment when the command has just been started."""
    port = free_port()
    command = [sys.executable, "-m", "gateway", "serve"]
    environment = environment_of({**settings, "server.port": str(port)}, tree)
    with running(command, environment, tree) as process:
        yield RunningServer(name, process.pid, port, model)


def wait_for(
    port: int,
    path: str,
    timeout: float,
    accept: Callable[[bytes], bool] = bool,
    process: "subprocess.Popen[bytes] | None" = None,
) -> None:
    """Return at the first status 200 with an acceptable body. Raises TimeoutError, or ServerDied
    where `process` has ended."""
    deadline = time.monotonic() + timeout
    while not accept(_get(port, path)):
        if process is not None and process.poll() is not None:
            raise ServerDied(process.returncode)
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} on port {port} did not answer 200 within {timeout:g} s")
        time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def running(
    command: list[str], environment: Mapping[str, str], folder: Path = ROOT
) -> Iterator["subprocess.Popen[bytes]"]:
    """A child process; when the block fails, the end of what it wrote is added to the error."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield process
        except Exception as error:
            error.add_note(f"{' '.join(command)} wrote: {_tail(output)}")
            raise
        finally:
            _end(process)


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment_of(settings: Mapping[str, str], tree: Path = ROOT) -> dict[str, str]:
    """The caller's environment, but with these settings alone: no settings file, no other variables
    of the server's. Its modules come from `tree`. What it stores is not kept."""
    others = {key: value for key, value in os.environ.items() if not key.startswith("LOCKGATE")}
    ours = {
        "LOCKGATE__" + path.upper().replace(".", "__"): value for path, value in settings.items()
    }
    base = {
        "LOCKGATE_CONFIG": os.devnull,
        "LOCKGATE_DATA": os.environ.get("LOCKGATE_DATA") or _folder_of_data().name,
        "LOCKGATE__ENGINE__NAME": "scripted",
        "PYTHONPATH": os.pathsep.join([str(tree), os.environ.get("PYTHONPATH", "")]),
    }
    if "prefix_cache_disk_gb" in (tree / "settings.toml").read_text(encoding="utf-8"):
        base["LOCKGATE__ENGINE__PREFIX_CACHE_DISK_GB"] = "0"  # no run knows what others have asked
    return {**others, **base, **ours}


@functools.cache
def _folder_of_data() -> "tempfile.TemporaryDirectory[str]":
    """Lives as long as this process."""
    return tempfile.TemporaryDirectory(prefix="lockgate-", ignore_cleanup_errors=True)


def _get(port: int, path: str) -> bytes:
    """The body of a reply with status 200, else nothing."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        return body if response.status == 200 else b""
    except (OSError, HTTPException):
        return b""
    finally:
        connection.close()


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(output: IO[bytes]) -> str:
    output.seek(0)
    return output.read()[-2000:].decode(errors="replace") or "nothing"
