"""Standard streams that are always there and take every text."""

import codecs
import io
import os
import sys
from typing import Any, cast

_ESCAPES = "lockgate_escapes"


class OutputError(OSError):
    """Stdout cannot be written, for example because the disk is full. Where the reader of a pipe
    has left, it is still a BrokenPipeError."""


class _Output(io.FileIO):
    def write(self, data: Any) -> int | None:  # type: ignore[override]
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(
                error.errno, f"the output cannot be written: {error.strerror}"
            ) from error


def open_standard_streams() -> None:
    """Opens the streams that were closed; they lead nowhere. Otherwise the next socket would get
    their number, and what a library writes to stderr would go to a client.

    A character that the encoding of stdout lacks is written as JSON writes it (`\\u00e9`), so that
    JSON stays JSON. Where stdout cannot be written, that is an OutputError. Bytes of stdin that are
    no text become surrogates.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)  # the lowest that is free
            os.set_inheritable(descriptor, True)
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8"))
    codecs.register_error(_ESCAPES, _escaped)
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=_ESCAPES)
        if sys.stdout is sys.__stdout__ and isinstance(_raw(sys.stdout), io.FileIO):
            sys.stdout = _named(sys.stdout)


def _raw(stream: io.TextIOWrapper) -> Any:
    return getattr(stream.buffer, "raw", stream.buffer)


def _named(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """The same stream, whose errors have a name of their own."""
    raw = _Output(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        cast(Any, raw) if stream.write_through else io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    pairs = (units[place : place + 2] for place in range(0, len(units), 2))
    return "".join(f"\\u{pair.hex()}" for pair in pairs), error.end
