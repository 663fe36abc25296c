"""`lockgate models`: the models of the catalogue, and which of them are on this machine."""

import argparse
import sys
from typing import Literal

import msgspec
from msgspec import Struct
from rich.table import Table

from gateway.commands.models_on_disk import open_store
from gateway.commands.options import add_settings_options, settings_of
from runtime.models.store import Model, ModelStore
from runtime.terminal.console import Console

State = Literal["present", "absent", "damaged"]


class ModelRow(Struct, frozen=True, kw_only=True):
    """One row of the table. `size` is in bytes. `sha256` is the hash that `--verify` found, in hex;
    without it, and without a file of the right size, it is ""."""

    name: str
    size: int
    licence: str
    state: State
    path: str
    sha256: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `lockgate models`."""
    parser.add_argument(
        "--verify", action="store_true", help="read the files and check their SHA-256"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_settings_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints the list. Exit code 1 when `--verify` finds a damaged file."""
    store = open_store(settings_of(arguments))
    rows = [_row(store, model, verify=arguments.verify) for model in store.models()]
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(rows)).decode())
    else:
        _print_table(rows)
        if arguments.verify:
            _print_hashes(store, rows)
    return int(any(row.state == "damaged" for row in rows))


def _row(store: ModelStore, model: Model, *, verify: bool) -> ModelRow:
    assert model.entry is not None, "the catalogue has an entry for each of its models"
    found = store.digest(model.entry) if verify else ""
    return ModelRow(
        name=model.name,
        size=model.entry.size,
        licence=model.entry.licence,
        state=_state(model, found if verify else None),
        path=str(model.path),
        sha256=found,
    )


def _state(model: Model, found: str | None) -> State:
    """`found` is the hash of the file; None if it was not computed."""
    assert model.entry is not None, "only models of the catalogue come here"
    if not model.path.exists():
        return "absent"
    if not model.is_present or found not in (None, model.entry.sha256):
        return "damaged"
    return "present"


def _print_table(rows: list[ModelRow]) -> None:
    table = Table("name", "size", "licence", "state", "path", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row.name, f"{row.size / 1e6:,.0f} MB", row.licence, row.state, row.path)
    # in a pipe no line is cut off or wrapped, so that the list can be searched
    width = None if sys.stdout.isatty() else 4096
    Console(width=width, highlight=False).print(table, soft_wrap=width is not None)


def _print_hashes(store: ModelStore, rows: list[ModelRow]) -> None:
    """A line for each file that is there: the hash that was found, and what it has to be."""
    expected = {model.name: model.entry.sha256 for model in store.models() if model.entry}
    for row in rows:
        if row.state == "absent":
            continue
        verdict = "as in the catalogue"
        if row.state == "damaged":
            verdict = f"not {expected[row.name]}; fetch it with: lockgate pull {row.name}"
        print(f"{row.name}: SHA-256 {row.sha256 or 'of no use, the size is wrong'}, {verdict}")
