"""`lockgate-convert verify TARGET`: whether a checkpoint is complete and close to its source."""

import argparse
from collections.abc import Iterable
from pathlib import Path

import msgspec
from rich.table import Table

from convert.checks.verify import MAX_ERROR, VerifiedTensor, verify, verify_against
from convert.commands.options import model_path
from runtime.terminal.console import Console

_NUM_WORST = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `lockgate-convert verify`."""
    parser.add_argument("target", metavar="TARGET", help="a folder that `run` has made")
    parser.add_argument(
        "--against", metavar="SOURCE", help="read the source again and compare every value"
    )
    parser.add_argument("--all", action="store_true", help="list every tensor, not the worst few")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Prints the differences. Exit code 1 when one is larger than rounding can explain."""
    target = Path(arguments.target)
    tensors: Iterable[VerifiedTensor] = (
        verify_against(target, model_path(arguments.against))
        if arguments.against
        else verify(target)
    )
    worst_first = sorted(tensors, key=lambda tensor: -tensor.difference.error)
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(worst_first)).decode())
    else:
        _print(worst_first, None if arguments.all else _NUM_WORST)
    return int(any(not tensor.passed for tensor in worst_first))


def _print(tensors: list[VerifiedTensor], limit: int | None) -> None:
    table = Table("tensor", "precision", "relative error", "cosine", box=None, pad_edge=False)
    for precision in MAX_ERROR:
        chosen = [tensor for tensor in tensors if tensor.precision == precision]
        for tensor in chosen[:limit]:
            mark = "" if tensor.passed else "  TOO LARGE"
            difference = tensor.difference
            error = f"{difference.error:.2e}{mark}"
            table.add_row(tensor.name, precision, error, f"{difference.cosine:.8f}")
        if chosen and limit is not None and len(chosen) > limit:
            table.add_row(f"({len(chosen) - limit} more with less)", precision, "", "")
    console = Console(highlight=False)
    console.print(table)
    console.print(f"{len(tensors)} tensors, {sum(not t.passed for t in tensors)} out of bounds")
