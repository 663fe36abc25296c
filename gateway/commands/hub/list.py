"""`lockgate list`: the models on this machine's disk."""

import argparse

from rich.table import Table

from gateway.commands.hub.output import age_text, print_json, print_table, size_text
from gateway.commands.models_on_disk import open_store
from gateway.commands.options import add_settings_options, settings_of
from runtime.models.stored import StoredModel, stored_models


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `lockgate list`."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_settings_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints the list: what is whole in the model folder and in the hub's cache."""
    models = stored_models(open_store(settings_of(arguments)))
    if arguments.json:
        print_json(models)
    elif models:
        print_table(_table(models))
    else:
        print("There are no models on this machine. Fetch one with: lockgate pull NAME")
    return 0


def _table(models: list[StoredModel]) -> Table:
    table = Table("name", "size", "quantisation", "last used", "where", box=None, pad_edge=False)
    for model in models:
        kind = "checkpoint folder" if model.is_folder else model.quantisation
        size, age = size_text(model.size), age_text(model.last_used)
        table.add_row(model.name, size, kind, age, model.place)
    return table
