"""What the checks look at: files, commands, environment, free space and installed packages."""

import importlib.metadata
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from msgspec import Struct

_COMMAND_TIMEOUT = 10
"""Seconds."""

Status = Literal["ok", "warning", "problem"]
Version = tuple[int, ...]


class Check(Struct, frozen=True, kw_only=True):
    """One thing that was looked at. With a "problem" the engine cannot run, with a "warning" it may
    fail or hang later. `found` is what there is; `advice` is what to do, empty if all is well."""

    name: str
    status: Status
    found: str
    advice: str = ""


def ok(name: str, found: str) -> Check:
    """A check that found nothing to mend."""
    return Check(name=name, status="ok", found=found)


def warning(name: str, found: str, advice: str) -> Check:
    """A check that found what may fail or hang later."""
    return Check(name=name, status="warning", found=found, advice=advice)


def problem(name: str, found: str, advice: str) -> Check:
    """A check that found what keeps the engine from running."""
    return Check(name=name, status="problem", found=found, advice=advice)


class Space(NamedTuple):
    """The size of a file system, and what is free of it, in bytes."""

    total: int
    free: int


def space_of(folder: Path) -> Space:
    """The file system that a folder is in, or would be in."""
    usage = shutil.disk_usage(nearest(folder))
    return Space(usage.total, usage.free)


def installed_version(package: str) -> str:
    """The version of an installed package, empty if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def requirements_of(package: str) -> list[str]:
    """What an installed package requires, as its metadata says it; empty if it is not installed."""
    try:
        return importlib.metadata.requires(package) or []
    except importlib.metadata.PackageNotFoundError:
        return []


class Machine:
    """The machine, as the checks see it. `root` is where `/proc`, `/sys` and `/dev` are."""

    def __init__(
        self,
        root: Path = Path("/"),
        environment: Mapping[str, str] = os.environ,
        *,
        space: Callable[[Path], Space] = space_of,
        version: Callable[[str], str] = installed_version,
        requirements: Callable[[str], list[str]] = requirements_of,
    ) -> None:
        self.root = root
        self.environment = environment
        self.space = space
        self.version = version
        self.requirements = requirements

    @property
    def is_wsl(self) -> bool:
        """Whether this is a Linux under Windows (WSL 2)."""
        return "microsoft" in self.text("proc/version").lower()

    @property
    def home(self) -> Path:
        """The user's folder."""
        return Path(self.environment.get("HOME") or Path.home())

    def text(self, path: str) -> str:
        """A file's text, empty if it cannot be read. `path` is relative to the root."""
        try:
            return (self.root / path).read_text(errors="replace")
        except OSError:
            return ""

    def find(self, command: str) -> Path | None:
        """Where a command is, by the environment's PATH."""
        found = shutil.which(command, path=self.environment.get("PATH", ""))
        return None if found is None else Path(found)

    def output(self, command: Path, *arguments: str) -> str:
        """What a command prints, empty if it fails or takes more than ten seconds."""
        try:
            done = subprocess.run(
                [command, *arguments],
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=_COMMAND_TIMEOUT,
                env=dict(self.environment),
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return done.stdout if done.returncode == 0 else ""


def nearest(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    while not folder.exists():
        folder = folder.parent
    return folder


def numbers(text: str) -> Version:
    """The numbers at the beginning of a version, such as (13, 0, 88) for "13.0.88+x". Empty if it
    begins with none."""
    found = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(map(int, found[0].split("."))) if found else ()
