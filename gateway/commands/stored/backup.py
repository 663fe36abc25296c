"""`lockgate store backup FILE`: copies the store, whatever a server does meanwhile."""

import argparse
from pathlib import Path

from gateway.commands.hub.output import size_text
from gateway.commands.options import add_settings_options
from gateway.commands.stored.new_file import new_file
from gateway.commands.stored.opened import check_target, opened

SUMMARY = "copy the store into a file, which can be used in its place"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `lockgate store backup`."""
    parser.add_argument("file", metavar="FILE", help="where to")
    parser.add_argument("--force", action="store_true", help="overwrite a file that is there")
    add_settings_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Copies what is stored now, in the form that it has. Raises SetupError for a file that is
    there, or in use."""
    target = Path(arguments.file)
    check_target(arguments, target)
    with (
        opened(arguments, upgrade=False) as database,
        new_file(target, force=arguments.force) as new,
    ):
        database.back_up(new)
    print(f"{target}: {size_text(target.stat().st_size)}")
    return 0
