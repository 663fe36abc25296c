"""`lockgate rm NAME …`: removes models from this machine's disk."""

import argparse

from gateway.commands.asking import agrees
from gateway.commands.hub.output import size_text
from gateway.commands.models_on_disk import open_store
from gateway.commands.options import add_settings_options, settings_of
from runtime.models.repositories.removal import Removal
from runtime.models.stored import removal_of, remove_stored

_NOT_REMOVED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `lockgate rm`."""
    parser.add_argument(
        "names",
        metavar="NAME",
        nargs="+",
        help="as in lockgate list; USER/REPO alone is all of a repository",
    )
    parser.add_argument("--yes", action="store_true", help="remove without asking")
    add_settings_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Says what is removed and what that frees, asks, and removes it. Exit code 1 if the answer is
    no."""
    store = open_store(settings_of(arguments))
    removals = [removal_of(store, name) for name in arguments.names]
    for removal in removals:
        print(f"{', '.join(removal.names)}: frees {size_text(removal.num_bytes)}")
    if not arguments.yes and not _agrees(removals):
        print("Nothing was removed.")
        return _NOT_REMOVED
    for removal in removals:
        remove_stored(store, removal)
    return 0


def _agrees(removals: list[Removal]) -> bool:
    count = sum(len(removal.names) for removal in removals)
    return agrees(f"Remove {'it' if count == 1 else f'these {count} models'}?", verb="remove")
