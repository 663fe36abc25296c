"""What self-checks have found on this machine, kept in a file of the user's cache."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import structlog
from msgspec import Struct

from runtime.errors import LibraryUnusable
from runtime.hardware.processor import machine_identity
from runtime.llama_library.installed import PACKAGES, library_version
from runtime.user_cache import cache_folder
from runtime.whole_file import write_whole

log = structlog.get_logger(__name__)

FILE_NAME = "llama_libraries.json"
EDITION = 2
"""Raised whenever the check becomes another one."""

TIMEOUT = 120.0
"""Seconds in which a check must end."""

_MAX_VERDICTS = 50


class Verdict(Struct, frozen=True, kw_only=True):
    """What is wrong with one library on one machine; an empty `problem` is nothing."""

    library: str
    version: str
    machine: str
    edition: int
    problem: str


def problem_of(name: str, file: Path | None = None) -> str:
    """What is wrong with a library on this machine, in a sentence; empty if it computes what it
    should. `name` is a family or a file. The first time it is checked in a process of its own, and
    the result is kept in `file`, by default in the user's cache."""
    file = file or cache_folder() / FILE_NAME
    try:
        version = library_version(name)
    except OSError as error:
        return _not_read(name, error)
    except LibraryUnusable as error:
        return str(error)
    machine, verdicts = machine_identity(), _read(file)
    for each in verdicts:
        known = (each.library, each.version, each.machine, each.edition)
        if known == (name, version, machine, EDITION):
            return each.problem
    problem = check_in_child(name)
    verdict = Verdict(
        library=name, version=version, machine=machine, edition=EDITION, problem=problem
    )
    others = [each for each in verdicts if each.library != name or each.machine != machine]
    _write(file, [*others, verdict][-_MAX_VERDICTS:])
    return problem


def check_in_child(name: str) -> str:
    """Check a library in a process of its own, which it may end. Returns as `problem_of`."""
    command = [sys.executable, "-P", "-m", "runtime.llama_library.self_check", name]
    environment = {**os.environ, "GGML_NO_BACKTRACE": "1"}
    try:
        child = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=TIMEOUT,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return f"The library {name} does not end its self-check within {TIMEOUT:.0f} seconds."
    if child.returncode == 0:
        return ""
    if child.returncode == 1 and child.stdout.strip():
        return child.stdout.strip().splitlines()[-1]
    return (
        f"The library {name} dies in its self-check ({_ending(child)}): it may be built for"
        " another processor."
    )


def _not_read(name: str, error: OSError) -> str:
    sentence = f"The library {name} cannot be read: {error.strerror}."
    if os.path.dirname(name):
        return sentence
    return f"{sentence} Known by name are {', '.join(PACKAGES)}, auto and cautious."


def _ending(child: "subprocess.CompletedProcess[str]") -> str:
    if child.returncode < 0:
        return signal.Signals(-child.returncode).name
    last = (child.stderr.strip().splitlines() or [""])[-1]
    return f"exit status {child.returncode}" + (f": {last}" if last else "")


def _read(file: Path) -> list[Verdict]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=list[Verdict])
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError) as error:
        log.warning("llama_library_verdicts_not_read", path=str(file), reason=str(error))
        return []


def _write(file: Path, verdicts: list[Verdict]) -> None:
    try:
        write_whole(file, msgspec.json.encode(verdicts))
    except OSError as error:
        log.warning("llama_library_verdicts_not_written", path=str(file), reason=str(error))
