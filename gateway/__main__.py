"""The command line: `lockgate COMMAND …`, or `python -m gateway COMMAND …`.

Exit codes: 0 done, 2 something for the user to put right (one line on stderr), 130 interrupted.
"""

import argparse
import errno
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn, Protocol, cast

from runtime.errors import SetupError
from runtime.version import __version__

_COMMANDS = {
    "serve": "serve a model over the OpenAI API",
    "pull": "download a model of the catalogue",
    "models": "list the catalogue and what is on this machine",
    "chat": "talk to a model in the terminal",
    "keys": "make API keys",
    "plan": "say what of a model fits on a GPU, and how fast it can be",
    "doctor": "show what this machine is and which engines can run on it",
}
_EXIT_SETUP = 2
_EXIT_INTERRUPTED = 130


class _Command(Protocol):
    """What a module of `gateway.commands` provides."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int: ...


class _Parser(argparse.ArgumentParser):
    """Wrong usage ends like every other mistake: in one line."""

    def error(self, message: str) -> NoReturn:
        raise SetupError(f"{message} (see: {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    _open_standard_streams()
    _print_every_character()
    try:
        return _run(sys.argv[1:] if argv is None else list(argv))
    except SetupError as error:
        print(f"lockgate: {' '.join(str(error).split())}", file=sys.stderr)
        return _EXIT_SETUP
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    except OSError as error:
        if not _has_no_reader(error):
            raise
        # Python would complain once more while it closes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _open_standard_streams() -> None:
    """Those that were closed lead nowhere now. Otherwise the next socket would get their number,
    and what a library writes to stderr would go to a client."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)  # the lowest that is free
            os.set_inheritable(descriptor, True)
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8"))


def _print_every_character() -> None:
    """What the encoding of an output lacks is printed as an escape. That of a file or a pipe has
    256 characters on Windows."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _has_no_reader(error: OSError) -> bool:
    """Whether the reader of our output has left. Windows calls that an invalid argument."""
    if sys.platform == "win32":
        return error.errno in (errno.EPIPE, errno.EINVAL)
    return isinstance(error, BrokenPipeError)


def _run(argv: list[str]) -> int:
    chosen = next((word for word in argv if not word.startswith("-")), "")
    parser = _Parser(prog="lockgate", description="Serve large language models from one machine.")
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
    return cast(_Command, import_module(f"gateway.commands.{name}"))


if __name__ == "__main__":
    sys.exit(main())
