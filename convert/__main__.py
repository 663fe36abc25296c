"""The command line: `lockgate-convert COMMAND …`, or `python -m convert COMMAND …`.

Exit codes: 0 done, 1 a checkpoint that is not close enough to its source, 2 something for the user
to put right (one line on stderr), 130 interrupted.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn, Protocol

from convert.commands import engine, inspect, plan, run, verify
from runtime.errors import SetupError
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
_EXIT_SETUP = 2
_EXIT_INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """Reports wrong usage in one line, like every other error."""

    def error(self, message: str) -> NoReturn:
        raise SetupError(f"{message} (see: {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    try:
        arguments = _parser().parse_args(argv)
        command, _ = _COMMANDS[arguments.command]
        return command.run(arguments)
    except SetupError as error:
        print(f"lockgate-convert: {' '.join(str(error).split())}", file=sys.stderr)
        return _EXIT_SETUP
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"lockgate-convert: {where}{error.strerror or error}", file=sys.stderr)
        return _EXIT_SETUP
    except KeyboardInterrupt:
        print("lockgate-convert: interrupted", file=sys.stderr)
        return _EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="lockgate-convert", description="Convert models for TensorRT-LLM.")
    parser.add_argument("--version", action="version", version=f"lockgate {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, summary) in _COMMANDS.items():
        description = f"{summary[0].upper()}{summary[1:]}."
        module.add_arguments(commands.add_parser(name, help=summary, description=description))
    return parser


if __name__ == "__main__":
    sys.exit(main())
