"""`lockgate usage`: what has been used, as the running server tells it."""

import argparse
import csv
import http
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import msgspec
from msgspec import Struct
from rich.table import Table

from gateway.admission.keys import ADMIN_KEY_VARIABLE
from gateway.commands.options import add_server_options, add_settings_options, settings_of
from gateway.commands.own_server import admin_header, running_server
from gateway.usage.periods import DAY, start_of
from runtime.errors import SetupError
from runtime.terminal.console import Console

MAX_DAYS = 3660
_GROUPS = {"key": "api_key_id", "model": "model", "endpoint": "endpoint", "day": ""}
_PATHS = ("/v1/organization/usage/completions", "/v1/organization/usage/embeddings")
_PAGE_DAYS = "31"
_NO_KEY = (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN)


class _Result(Struct):
    """What is read of a result of either kind."""

    num_model_requests: int
    input_tokens: int
    input_cached_tokens: int = 0
    output_tokens: int = 0
    output_reasoning_tokens: int = 0
    api_key_id: str | None = None
    model: str | None = None
    endpoint: str | None = None


class _Bucket(Struct):
    start_time: int
    results: list[_Result]


class _Page(Struct):
    data: list[_Bucket]
    next_page: str | None


class _Row(Struct):
    """A line of the table. `name` is a key, a model, an endpoint or a day."""

    name: str
    requests: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    def add(self, result: _Result) -> None:
        self.requests += result.num_model_requests
        self.input_tokens += result.input_tokens
        self.cached_tokens += result.input_cached_tokens
        self.output_tokens += result.output_tokens
        self.reasoning_tokens += result.output_reasoning_tokens


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `lockgate usage`."""
    parser.add_argument(
        "--days", type=_days, default=30, help="how many days of UTC, with today (default: 30)"
    )
    parser.add_argument("--by", choices=tuple(_GROUPS), default="day", help="default: day")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="print CSV instead of a table")
    form.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_server_options(parser)
    add_settings_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Asks the server at the address of the settings: with an admin's key for what all keys have
    used, with another for what that one has."""
    start = start_of("day", time.time()) - (arguments.days - 1) * DAY
    with running_server(settings_of(arguments)) as client:
        rows = _rows(client, start, arguments.by)
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(rows)).decode())
    elif arguments.csv:
        lines = csv.writer(sys.stdout, lineterminator="\n")
        lines.writerow([arguments.by, *_Row.__struct_fields__[1:]])
        lines.writerows(msgspec.structs.astuple(row) for row in rows)
    else:
        _print_table(arguments.by, rows)
    return 0


def _days(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_DAYS:
        raise argparse.ArgumentTypeError(f"a whole number from 1 to {MAX_DAYS}, not {text!r}")
    return int(text)


def _rows(client: httpx.Client, start: int, by: str) -> list[_Row]:
    rows: dict[str, _Row] = {}
    group = _GROUPS[by]
    for path in _PATHS:
        for bucket in _buckets(client, path, start, group):
            day = datetime.fromtimestamp(bucket.start_time, UTC).strftime("%Y-%m-%d")
            for result in bucket.results:
                name = getattr(result, group) if group else day
                rows.setdefault(name, _Row(name)).add(result)
    return [rows[name] for name in sorted(rows)]


def _buckets(client: httpx.Client, path: str, start: int, group: str) -> Iterator[_Bucket]:
    query = {"start_time": str(start), "limit": _PAGE_DAYS}
    if group:
        query["group_by"] = group
    page = _page(client, path, query)
    yield from page.data
    while page.next_page is not None:
        page = _page(client, path, {**query, "page": page.next_page})
        yield from page.data


def _page(client: httpx.Client, path: str, query: dict[str, str]) -> _Page:
    where = client.base_url
    try:
        answer = client.get(path, params=query, headers=admin_header())
    except httpx.HTTPError as error:
        raise SetupError(
            f"no Lockgate answers at {where}: {error}. Say where it listens with --host and --port"
        ) from error
    if answer.status_code in _NO_KEY:
        raise SetupError(f"the server at {where} wants a key; set {ADMIN_KEY_VARIABLE}")
    if answer.status_code != http.HTTPStatus.OK:
        raise SetupError(f"the server at {where} tells no usage: it answers {answer.status_code}")
    try:
        return msgspec.json.decode(answer.content, type=_Page)
    except msgspec.DecodeError as error:
        raise SetupError(f"what answers at {where} is no Lockgate: {error}") from error


def _print_table(by: str, rows: list[_Row]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column(by)
    for name in _Row.__struct_fields__[1:]:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        name, *numbers = msgspec.structs.astuple(row)
        table.add_row(name, *(f"{number:,}" for number in numbers))
    # in a pipe no line is cut off or wrapped, so that the list can be searched
    width = None if sys.stdout.isatty() else 4096
    Console(width=width, highlight=False).print(table, soft_wrap=width is not None)
