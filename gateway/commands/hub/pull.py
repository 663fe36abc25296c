"""`lockgate pull NAME`: downloads a model of the catalogue, of the hub or at a URL."""

import argparse
from pathlib import Path

from gateway.commands.models_on_disk import open_store, pull_with_progress
from gateway.commands.options import add_offline_option, add_settings_options, settings_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `lockgate pull`."""
    parser.add_argument(
        "name",
        metavar="NAME",
        help="a name of the catalogue, USER/REPO, USER/REPO:QUANTISATION or USER/REPO/FILE.gguf on"
        " the hub, or the URL of a .gguf file",
    )
    parser.add_argument(
        "--any-size", action="store_true", help="download it even if it is too large to run here"
    )
    add_offline_option(parser)
    add_settings_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Downloads the model, or checks the one on the disk. Prints its path."""
    store = open_store(settings_of(arguments), any_size=arguments.any_size)
    print(_own_file(arguments.name) or pull_with_progress(store, arguments.name))
    return 0


def _own_file(name: str) -> Path | None:
    """The GGUF file at this path, of which there is nothing to download."""
    path = Path(name).expanduser()
    return path if path.suffix.lower() == ".gguf" and path.is_file() else None
