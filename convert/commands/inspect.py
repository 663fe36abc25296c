"""`lockgate-convert inspect PATH`: describes a model, from the headers of its files."""

import argparse

import msgspec
from rich.table import Table

from convert.checks.inspection import Inspection, inspect
from convert.commands.options import model_path
from runtime.terminal.console import Console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `lockgate-convert inspect`."""
    parser.add_argument(
        "path",
        metavar="PATH",
        help="a GGUF file, a folder, or a name of the catalogue or of the hub",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Prints what the headers say."""
    found = inspect(model_path(arguments.path))
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        _print(found)
    return 0


def _print(found: Inspection) -> None:
    mix = ", ".join(
        f"{kind} {count / found.num_parameters:.1%}" for kind, count in found.mix.items()
    )
    rows = {
        "path": found.path,
        "format": f"{found.format}, {found.num_files} file(s), {found.num_bytes / 1e6:,.0f} MB",
        "name": found.name,
        "architecture": found.architecture,
        "parameters": f"{found.num_parameters / 1e6:,.1f} million in {found.num_tensors} tensors",
        "types": mix,
        "context": f"{found.context:,} tokens",
        "vocabulary": f"{found.vocabulary:,} tokens ({found.tokenizer})",
        "chat template": "yes" if found.has_chat_template else "no",
        "convertible": f"no: {found.convertible}" if found.convertible else "yes",
    }
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in rows.items():
        table.add_row(name, value)
    Console(highlight=False).print(table)
