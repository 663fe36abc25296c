"""`lockgate store info`: what is stored, and how much room that takes."""

import argparse
from collections.abc import Sequence

from msgspec import Struct
from rich.markup import escape
from rich.table import Table

from gateway.commands.hub.output import age_text, print_json, print_table, size_text
from gateway.commands.options import add_settings_options
from gateway.commands.stored.opened import opened
from gateway.store.upkeep.maintained import About, Share, Which

SUMMARY = "show what is stored, by kind and owner, and how much room it takes"


class StoreReport(Struct, frozen=True, kw_only=True):
    """What `--json` prints. Sizes are in bytes, and times in seconds since 1970; they are None if
    nothing is stored."""

    place: str
    form: int
    num_bytes: int
    file_bytes: int
    num_records: int
    oldest: float | None
    newest: float | None
    shares: Sequence[Share]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `lockgate store info`."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_settings_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints a summary, and a line for each kind and owner."""
    with opened(arguments) as database:
        report = _report(database.about(), database.shares(Which()))
    if arguments.json:
        print_json(report)
    else:
        _print(report)
    return 0


def _report(about: About, shares: Sequence[Share]) -> StoreReport:
    return StoreReport(
        place=about.place,
        form=about.form,
        num_bytes=about.num_bytes,
        file_bytes=about.file_bytes,
        num_records=sum(share.num_records for share in shares),
        oldest=min((share.oldest for share in shares), default=None),
        newest=max((share.newest for share in shares), default=None),
        shares=shares,
    )


def _print(report: StoreReport) -> None:
    sizes = f"{size_text(report.num_bytes)} in use, {size_text(report.file_bytes)} on the disk"
    print(f"{report.place} (form {report.form}): {sizes}")
    if report.shares:
        print_table(table_of(report.shares))
    else:
        print("Nothing is stored.")


def table_of(shares: Sequence[Share]) -> Table:
    """A line for each."""
    columns = ("kind", "owner", "records", "size", "oldest", "newest")
    table = Table(*columns, box=None, pad_edge=False)
    for share in shares:
        names = escape(share.kind), escape(share.owner)
        count, size = f"{share.num_records:,}", size_text(share.num_bytes)
        table.add_row(*names, count, size, age_text(share.oldest), age_text(share.newest))
    return table
