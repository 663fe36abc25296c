"""How a program runs and ends.

Exit codes: 0 done, 2 something for the user to put right, 130 interrupted, 141 the reader of the
output has left. With 2 and 130 there is one line on stderr. A command may have codes of its own.
"""

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn, TextIO

from runtime.errors import SetupError
from runtime.terminal.streams import OutputError, open_standard_streams

DONE = 0
SETUP = 2
INTERRUPTED = 130
READER_LEFT = 141
"""What a shell reports of a program that SIGPIPE has ended."""


class Parser(argparse.ArgumentParser):
    """Wrong usage ends like every other mistake: in one line. argparse would overlook that its help
    cannot be written."""

    def error(self, message: str) -> NoReturn:
        raise SetupError(f"{message} (see: {self.prog} --help)")

    def _print_message(self, message: str, file: Any = None) -> None:
        if message:
            (file or sys.stderr).write(message)


def run_program(name: str, run: Callable[[], int]) -> int:
    """Runs the program and returns its exit code. All that it has printed is written then, or the
    code says that it is not."""
    open_standard_streams()
    try:
        return _with_output_written(run)
    except SetupError as error:
        return _ended(name, SETUP, str(error))
    except KeyboardInterrupt:
        return _ended(name, INTERRUPTED, "interrupted")
    except BrokenPipeError:
        _lead_nowhere(sys.stdout)
        return READER_LEFT
    except OutputError as error:
        _lead_nowhere(sys.stdout)
        return _ended(name, SETUP, str(error.strerror))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _ended(name, SETUP, f"{where}{error.strerror or error}")


def _with_output_written(run: Callable[[], int]) -> int:
    try:
        return run()
    finally:  # `--help` leaves by SystemExit
        sys.stdout.flush()


def _ended(name: str, code: int, message: str) -> int:
    try:
        print(f"{name}: {' '.join(message.split())}", file=sys.stderr, flush=True)
    except OSError:
        _lead_nowhere(sys.stderr)
    return code


def _lead_nowhere(stream: TextIO) -> None:
    """Python writes what is left in a stream when it exits, and complains if that fails."""
    with suppress(OSError):  # a stream that is no file has nothing to write
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
