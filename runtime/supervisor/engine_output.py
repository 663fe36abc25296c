"""What an engine process writes to its standard streams."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable

from msgspec import Struct

from runtime.config.worker import LogForm

_READ_BYTES = 65_536


class EngineOutput(Struct):
    """Where all that an engine process writes goes, line by line: `write` must not wait for
    anybody, because the engine would wait too. `form` is that of the own log lines of engines that
    start from now on."""

    write: Callable[[bytes], None]
    form: LogForm


def form_of(output: EngineOutput | None) -> LogForm:
    """The form of the log lines of an engine. Without `output` it shares this process's stderr."""
    if output is not None:
        return output.form
    return "colored" if sys.stderr.isatty() else "json"


def forward(
    process: "subprocess.Popen[bytes]",
    write: Callable[[bytes], None],
    on_data: Callable[[], None],
) -> None:
    """Reads the process's output in a thread until it ends. `on_data` is called there for whatever
    comes, which may be less than a line."""
    assert process.stdout is not None, "the process was started with a pipe"
    source = process.stdout
    threading.Thread(
        target=_forward, args=(source.fileno(), write, on_data), name="engine-output", daemon=True
    ).start()


def _forward(descriptor: int, write: Callable[[bytes], None], on_data: Callable[[], None]) -> None:
    rest = b""
    while data := os.read(descriptor, _READ_BYTES):
        on_data()
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > _READ_BYTES:
            lines, rest = [*lines, rest], b""
        if lines:
            write(b"\n".join(lines) + b"\n")
    if rest:
        write(rest + b"\n")
