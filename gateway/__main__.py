"""The command line: `lockgate COMMAND …`, or `python -m gateway COMMAND …`.

`runtime.terminal.programs` lists the exit codes.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Protocol, cast

from runtime.terminal.programs import Parser, run_program
from runtime.version import __version__

_COMMANDS = {
    "serve": "serve a model over the OpenAI API",
    "pull": "download a model of the catalogue or of the Hugging Face hub",
    "search": "search the Hugging Face hub for models",
    "list": "list the models on this machine",
    "show": "say what a model is and what it needs",
    "rm": "remove models from this machine",
    "models": "list the catalogue and what is on this machine",
    "chat": "talk to a model in the terminal",
    "keys": "make API keys",
    "plan": "say what of a model fits on a GPU, and how fast it can be",
    "reload": "have the running server read its settings, keys and certificate again",
    "doctor": "show what this machine is and which engines can run on it",
    "ps": "show which models the running server has loaded",
    "store": "look after what the server remembers",
    "usage": "show what has been used by day, key, model or endpoint",
}
_ROOMS = {
    **dict.fromkeys(("pull", "search", "list", "show", "rm"), "hub."),
    **dict.fromkeys(("ps", "reload", "usage"), "running."),
    "store": "stored.",
}
"""The folders of commands that do not lie in `gateway.commands` itself."""


class _Command(Protocol):
    """What a module of `gateway.commands` provides."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    return run_program("lockgate", lambda: _run(sys.argv[1:] if argv is None else list(argv)))


def _run(argv: list[str]) -> int:
    chosen = next((word for word in argv if not word.startswith("-")), "")
    parser = Parser(prog="lockgate", description="Serve large language models from one machine.")
    parser.add_argument("--version", action="version", version=f"lockgate {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in _COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}."
        )
        # a command is imported when it is the one to run: serving starts in well under a second
        if name == chosen:
            _load(name).add_arguments(command)
    arguments = parser.parse_args(argv)
    return _load(arguments.command).run(arguments)


def _load(name: str) -> _Command:
    return cast(_Command, import_module(f"gateway.commands.{_ROOMS.get(name, '')}{name}"))


if __name__ == "__main__":
    sys.exit(main())
