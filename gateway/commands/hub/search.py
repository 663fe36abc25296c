"""`lockgate search WORDS`: models with GGUF files on the hub, and which of them run here."""

import argparse
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct, structs
from rich.table import Table

from gateway.commands.hub.output import print_json, print_table, size_text
from gateway.commands.models_on_disk import open_store
from gateway.commands.options import add_settings_options, settings_of
from gateway.models.pulls.wanted import memory_here
from runtime.errors import PullError, SetupError
from runtime.models.repositories.client import HubClient, RepositoryInfo
from runtime.models.repositories.listing import Choice, choose, memory_needed
from runtime.models.repositories.names import HubName
from runtime.terminal.numbers import whole_number

_THREADS = 4


class FoundModel(Struct, frozen=True, kw_only=True):
    """A repository with the file that its name alone would pull here. `size` and `memory` are in
    bytes. If there is none, `problem` says why, and these are 0."""

    name: str
    licence: str
    downloads: int
    is_gated: bool
    quantisation: str = ""
    size: int = 0
    memory: int = 0
    fits: bool = False
    problem: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `lockgate search`."""
    parser.add_argument("words", metavar="WORD", nargs="+", help="words of the repository's name")
    parser.add_argument(
        "--limit", type=whole_number(1, 100), default=10, metavar="N", help="rows (default: 10)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_settings_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints what the hub finds, the most downloaded first."""
    words = " ".join(arguments.words).strip()
    if not words:
        raise SetupError("say which words the repository's name has, as in: lockgate search qwen3")
    settings = settings_of(arguments)
    place = open_store(settings).repositories.place
    if place.is_offline:
        raise SetupError("the hub is not searched offline (model.offline, HF_HUB_OFFLINE)")
    client = HubClient(place)
    try:
        found = client.search(words, arguments.limit)
        memory = memory_here(settings.engine)
        with ThreadPoolExecutor(_THREADS) as threads:
            rows = list(threads.map(lambda info: _row(client, info, memory), found))
    finally:
        client.close()
    if arguments.json:
        print_json(rows)
    elif rows:
        print_table(_table(rows))
    else:
        print(f"The hub has no model with GGUF files for: {words}")
    return 0


def _row(client: HubClient, info: RepositoryInfo, memory: int) -> FoundModel:
    row = FoundModel(
        name=info.id,
        licence=info.licence,
        downloads=info.downloads,
        is_gated=bool(info.gated),
    )
    try:
        choice = _choice(client, info.id, memory)
    except SetupError as error:
        return structs.replace(row, problem=str(error))
    needed = memory_needed(choice.num_bytes)
    return structs.replace(
        row,
        quantisation=choice.quantisation,
        size=choice.num_bytes,
        memory=needed,
        fits=not memory or needed <= memory,
    )


def _choice(client: HubClient, repository: str, memory: int) -> Choice:
    """What the repository's name alone means here; where nothing fits, what it means elsewhere."""
    listing, name = client.listing(repository), HubName(repository=repository)
    try:
        return choose(listing, name, form="gguf", memory=memory)
    except PullError:
        return choose(listing, name, form="gguf")


def _table(rows: list[FoundModel]) -> Table:
    heads = ("name", "quantisation", "size", "fits here", "licence", "downloads")
    table = Table(*heads, box=None, pad_edge=False)
    for row in rows:
        size = size_text(row.size) if row.size else "-"
        fits = "-" if row.problem else ("yes" if row.fits else "no")
        licence = f"{row.licence or '-'}{', gated' if row.is_gated else ''}"
        table.add_row(row.name, row.quantisation or "-", size, fits, licence, f"{row.downloads:,}")
    return table
