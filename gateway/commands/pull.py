"""`lockgate pull NAME`: downloads a model of the catalogue."""

import argparse

from gateway.commands.models_on_disk import open_store, pull_with_progress
from gateway.commands.options import add_settings_options, settings_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `lockgate pull`."""
    parser.add_argument("name", metavar="NAME", help="a name of the catalogue")
    add_settings_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Downloads the model, or checks the one on the disk. Prints its path."""
    store = open_store(settings_of(arguments))
    print(pull_with_progress(store, arguments.name))
    return 0
