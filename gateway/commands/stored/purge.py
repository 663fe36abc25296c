"""`lockgate store purge`: deletes what is stored."""

import argparse
import time

from msgspec import structs

from gateway.commands.asking import agrees
from gateway.commands.hub.output import print_table
from gateway.commands.options import add_settings_options
from gateway.commands.stored.info import table_of
from gateway.commands.stored.opened import add_which, opened, which_of
from gateway.store.upkeep.kinds import whole_of
from gateway.store.upkeep.maintained import Maintained, Which
from gateway.store.upkeep.purge import STEP_SECONDS, purge, with_parts
from runtime.errors import SetupError
from runtime.terminal.numbers import number

SUMMARY = "delete what is stored"
_NOT_DELETED = 1
_DAY = 86_400.0
_MAX_DAYS = 36_500.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `lockgate store purge`."""
    add_which(parser)
    parser.add_argument(
        "--older-than",
        metavar="DAYS",
        type=number(0.0, _MAX_DAYS),
        help="only what was stored more than so many days ago",
    )
    parser.add_argument("--all", action="store_true", help="everything of everybody")
    parser.add_argument("--yes", action="store_true", help="delete without asking")
    add_settings_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Says what is deleted, asks, and deletes it. Exit code 1 if the answer is no."""
    which = _which(arguments)
    with opened(arguments) as database:
        shares = database.shares(with_parts(which))
        if not shares:
            print("Nothing like that is stored.")
            return 0
        print_table(table_of(shares))
        count = sum(share.num_records for share in shares)
        if not arguments.yes and not agrees(f"Delete these {count:,} records?", verb="delete"):
            print("Nothing was deleted.")
            return _NOT_DELETED
        print(f"Deleted {_deleted(database, which):,} records.")
    return 0


def _which(arguments: argparse.Namespace) -> Which:
    """Raises SetupError for options that say too little, or half of an object."""
    which = which_of(arguments)
    if arguments.older_than is not None:
        which = structs.replace(which, before=time.time() - arguments.older_than * _DAY)
    chosen = (arguments.owner, arguments.kind, arguments.older_than)
    if chosen == (None, None, None) and not arguments.all:
        raise SetupError("say what to delete: --owner, --kind, --older-than or --all")
    if arguments.kind and (whole := whole_of(arguments.kind)):
        raise SetupError(f"--kind: {arguments.kind} is a part of others; say --kind {whole}")
    return which


def _deleted(database: Maintained, which: Which) -> int:
    """How many records that were."""
    num_deleted = 0
    for count in purge(database, which):
        num_deleted += count
        time.sleep(STEP_SECONDS)  # others store meanwhile
    return num_deleted
