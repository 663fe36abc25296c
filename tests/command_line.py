"""Commands of `lockgate` in processes of their own, without the settings of who runs the tests."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPTED = ("--engine", "scripted", "--port", "0")


def environment(**variables: str) -> dict[str, str]:
    """The environment without settings of the one who runs the tests."""
    clean = {name: value for name, value in os.environ.items() if "LOCKGATE" not in name.upper()}
    return {**clean, "PYTHONPATH": str(ROOT), **variables}


def start(folder: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "gateway", *arguments],
        cwd=folder,
        env=environment(**variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


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
