"""The walk-through of docs/tensorrt-llm.md, read from the document and run as it stands there.

A small model takes the place of the large one under its name, a short text the place of the
calibration's, port 0 that of the server's port. Everything else is the document's.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

import convert.__main__
import gateway.__main__
from tests.kit.root import ROOT
from tests.kit.tensorrt_double import DOUBLES, STABLE

DOCUMENT = ROOT / "docs/tensorrt-llm.md"
HEADING = "## From a GGUF file to a server on a 12 GB card"
SOURCE = "Qwen3-8B-Q5_K_M.gguf"
NOT_HERE = ("hf download", "podman build", "podman run")
"""Beginnings of commands that cannot run in a test: gigabytes from the network, a container."""

_START_SECONDS = 60.0
_CALIBRATION = "The queue was long, and the quick brown fox waited for its turn like the others.\n"
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_AT_LINE_END = re.compile(r"\\\n\s*")


def section() -> str:
    """The text of the walk-through."""
    return DOCUMENT.read_text(encoding="utf-8").partition(HEADING)[2].partition("\n## ")[0]


def commands() -> list[list[str]]:
    """All commands of the walk-through, each as its words."""
    words: list[list[str]] = []
    for block in _BLOCK.findall(section()):
        words += _split(_AT_LINE_END.sub("", block))
    return words


def is_for_elsewhere(command: list[str]) -> bool:
    """Whether the command is one of NOT_HERE."""
    return shlex.join(command).startswith(NOT_HERE)


class Walk:
    """Runs the commands one after the other in one folder, where `SOURCE` lies.

    A server runs until the next one is started, as in one terminal. `answers` is what the
    requests got, `ran` the beginnings of the commands that have run.
    """

    def __init__(self, folder: Path) -> None:
        self.answers: list[dict[str, Any]] = []
        self.ran: list[str] = []
        self._folder = folder
        self._stack = ExitStack()
        self._url = ""
        self._calibration = folder / "calibration.txt"
        self._calibration.write_text(_CALIBRATION * 16)

    def __enter__(self) -> "Walk":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def run(self, command: list[str]) -> None:
        """Run one command; anything but success is an AssertionError with the command."""
        program, *arguments = command
        if program == "curl":
            self.answers.append(self._ask(arguments))
        elif program == "lockgate" and arguments[0] == "serve":
            self._stack.close()
            self._url = self._stack.enter_context(_serving(self._folder, arguments))
        else:
            if "int4-awq" in arguments:
                arguments = [*arguments, "--calibration", str(self._calibration)]
            assert _PROGRAMS[program](arguments) == 0, shlex.join(command)
        self.ran.append(f"{program} {arguments[0]}")

    def _ask(self, arguments: list[str]) -> dict[str, Any]:
        url, header, body = (
            arguments[0],
            arguments[arguments.index("-H") + 1],
            arguments[arguments.index("-d") + 1],
        )
        name, _, value = header.partition(": ")
        response = httpx.post(
            url.replace("http://localhost:8000", self._url), headers={name: value}, content=body
        )
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = json.loads(response.text)
        return answer


_PROGRAMS: dict[str, Callable[[list[str]], int]] = {
    "lockgate": gateway.__main__.main,
    "lockgate-convert": convert.__main__.main,
}


def _split(block: str) -> Iterator[list[str]]:
    """A block of shell as commands: a line each, but for quoted texts that go over several."""
    lexer = shlex.shlex(block, posix=True, punctuation_chars="\n")
    lexer.whitespace, lexer.whitespace_split = " \t", True
    lexer.commenters = ""
    command: list[str] = []
    for word in lexer:
        if word.strip("\n"):
            command.append(word)
        elif command:
            yield command
            command = []
    if command:
        yield command


@contextmanager
def _serving(folder: Path, arguments: list[str]) -> Iterator[str]:
    """The URL of a server on the double of TensorRT-LLM, in a process of its own."""
    environment = {k: v for k, v in os.environ.items() if not k.upper().startswith("LOCKGATE")}
    log = folder / "serve.log"
    with open(log, "w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", *arguments, "--port", "0"],
            cwd=folder,
            env=environment
            | {"PYTHONPATH": f"{DOUBLES}{os.pathsep}{ROOT}", "TENSORRT_LLM_DOUBLE": STABLE},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield _url_of(process, log)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _url_of(process: "subprocess.Popen[bytes]", log: Path) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        match = re.search(r"serves \S+ at (http://[^/\s]+)/v1", log.read_text())
        if match and httpx.get(f"{match[1]}/health/ready").status_code == 200:
            return match[1]
        time.sleep(0.05)
    raise AssertionError(f"the server did not get ready: {log.read_text()}")
