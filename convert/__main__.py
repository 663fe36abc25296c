"""The command line: `lockgate-convert COMMAND …`, or `python -m convert COMMAND …`.

Exit code 1 is a checkpoint that is not close enough to its source; `runtime.terminal.programs`
lists the others.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Protocol

from convert.commands import engine, inspect, plan, run, verify
from runtime.terminal.programs import Parser, run_program
from runtime.version import __version__


class _Command(Protocol):
    """What a module of `convert.commands` provides."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int: ...


_COMMANDS: dict[str, tuple[_Command, str]] = {
    "inspect": (inspect, "show what a GGUF file or a folder of safetensors is"),
    "plan": (plan, "show what each precision needs, and what of it fits on a GPU"),
    "run": (run, "write a checkpoint that TensorRT-LLM loads"),
    "verify": (verify, "check a checkpoint, by itself or against its source"),
    "engine": (engine, "build engines for the older backend of TensorRT-LLM 1.2"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    return run_program("lockgate-convert", lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    command, _ = _COMMANDS[arguments.command]
    return command.run(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="lockgate-convert", description="Convert models for TensorRT-LLM.")
    parser.add_argument("--version", action="version", version=f"lockgate {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, summary) in _COMMANDS.items():
        description = f"{summary[0].upper()}{summary[1:]}."
        module.add_arguments(commands.add_parser(name, help=summary, description=description))
    return parser


if __name__ == "__main__":
    sys.exit(main())
