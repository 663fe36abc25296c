"""A machine of folders and small scripts."""

from collections.abc import Callable, Mapping
from pathlib import Path

from runtime.hardware.prerequisites.machine import Machine, Space

GB = 10**9

MakeMachine = Callable[..., Machine]


ROOMY = Space(100 * GB, 50 * GB)


def machine_at(
    root: Path,
    files: Mapping[str, str] | None = None,
    commands: Mapping[str, str] | None = None,
    packages: Mapping[str, str] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    space: Space = ROOMY,
    requirements: list[str] | None = None,
) -> Machine:
    """A machine with `files`, texts below the root; `commands`, what they print, by name; and
    `packages`, versions by name. It always has a loopback interface."""
    _write(root, {"sys/class/net/lo/flags": "0x9\n"} | dict(files or {}))
    for name, output in (commands or {}).items():
        _write_command(root / "bin" / name, output)
    given = {"PATH": str(root / "bin"), "HOME": str(root / "home")}
    return Machine(
        root,
        given | dict(environment or {}),
        space=lambda _: space,
        version=lambda name: (packages or {}).get(name, ""),
        requirements=lambda _: requirements or [],
    )


def _write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def _write_command(path: Path, output: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n/bin/cat <<'END'\n{output}\nEND\n")
    path.chmod(0o755)
