"""`lockgate store export`: writes what is stored as lines of JSON."""

import argparse
import base64
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from msgspec import Raw

from gateway.commands.options import add_settings_options
from gateway.commands.stored.new_file import new_file
from gateway.commands.stored.opened import add_which, check_target, opened, which_of
from gateway.store.record import Record
from gateway.store.upkeep.purge import with_parts

SUMMARY = "write what is stored as lines of JSON"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `lockgate store export`."""
    parser.add_argument("file", metavar="FILE", nargs="?", help="where to (default: stdout)")
    add_which(parser)
    parser.add_argument("--force", action="store_true", help="overwrite a file that is there")
    add_settings_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Writes a line for each record, in the order in which they were stored. Raises SetupError for
    a file that is there."""
    which = with_parts(which_of(arguments))
    with opened(arguments) as database, _target(arguments) as target:
        for record in database.records(which):
            line = line_of(record)
            if target is None:
                print(line.decode())
            else:
                target.write(line + b"\n")
    return 0


def _target(arguments: argparse.Namespace) -> Any:
    """The file, open for writing; None for stdout."""
    if arguments.file is None:
        return nullcontext()
    path = Path(arguments.file)
    check_target(arguments, path)
    return _written(path, force=arguments.force)


@contextmanager
def _written(path: Path, *, force: bool) -> Iterator[BinaryIO]:
    with new_file(path, force=force) as new, new.open("wb") as file:
        yield file


def line_of(record: Record) -> bytes:
    """The record as JSON on one line. A body that is no JSON is `body_base64`."""
    fields: dict[str, Any] = {name: getattr(record, name) for name in record.__struct_fields__}
    try:
        fields["body"] = Raw(msgspec.json.format(record.body, indent=-1))
    except msgspec.DecodeError:
        fields["body_base64"] = base64.b64encode(fields.pop("body")).decode()
    return msgspec.json.encode(fields)
