"""`lockgate store vacuum`: gives room that is free in the database back to the disk."""

import argparse
import time

from gateway.commands.hub.output import size_text
from gateway.commands.options import add_settings_options
from gateway.commands.stored.opened import opened
from gateway.store.upkeep.maintained import Maintained
from gateway.store.upkeep.purge import STEP_SECONDS

SUMMARY = "give room that is free in the database back to the disk"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `lockgate store vacuum`."""
    parser.add_argument(
        "--full",
        action="store_true",
        help="write the whole file anew, in order; a running server can store nothing meanwhile",
    )
    add_settings_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints the size before and after."""
    with opened(arguments) as database:
        before = database.about().file_bytes
        if arguments.full:
            database.rewrite()
        else:
            _give_all_back(database)
        database.write_back()
        after = database.about().file_bytes
    print(f"The store took {size_text(before)} of the disk and takes {size_text(after)} now.")
    return 0


def _give_all_back(database: Maintained) -> None:
    while True:
        with database.transaction():
            if not database.give_back(0.0, STEP_SECONDS):
                return
        time.sleep(STEP_SECONDS)  # others store meanwhile
