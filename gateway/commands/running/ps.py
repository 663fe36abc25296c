"""`lockgate ps`: the models of the running server, and which of them are loaded."""

import argparse
import http
import sys
from typing import Any

import httpx
import msgspec
from rich.table import Table

from gateway.admission.keys import ADMIN_KEY_VARIABLE
from gateway.commands.options import add_server_options, add_settings_options, settings_of
from gateway.commands.own_server import running_server
from gateway.models.manager.slot import ModelReport
from runtime.errors import SetupError
from runtime.terminal.console import Console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `lockgate ps`."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_server_options(parser)
    add_settings_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Asks the server at the address of the settings, and prints its models."""
    with running_server(settings_of(arguments)) as client:
        reports = _reports(client)
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(reports)).decode())
    else:
        _print_table(reports)
    return 0


def _reports(client: httpx.Client) -> list[ModelReport]:
    try:
        response = client.get("/health")
        document: Any = msgspec.json.decode(response.content)
    except (httpx.HTTPError, msgspec.DecodeError) as error:
        raise SetupError(f"no Lockgate answers at {client.base_url}: {error}") from error
    if response.status_code in (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN):
        raise SetupError(
            f"the server at {client.base_url} wants an admin's key; set {ADMIN_KEY_VARIABLE}"
        )
    if "models" not in document:
        raise SetupError(f"what answers at {client.base_url} is no Lockgate that knows its models")
    return msgspec.convert(list(document["models"].values()), list[ModelReport])


def _print_table(reports: list[ModelReport]) -> None:
    columns = ("name", "state", "memory", "requests", "waiting", "idle", "loads", "reason")
    table = Table(*columns, box=None, pad_edge=False)
    for each in reports:
        table.add_row(
            each.name,
            each.state,
            f"{each.memory_bytes / 1e6:,.0f} MB" if each.memory_bytes else "",
            str(each.num_requests),
            str(each.num_waiting),
            _idle(each),
            str(each.num_loads),
            each.reason,
        )
    # in a pipe no line is cut off or wrapped, so that the list can be searched
    width = None if sys.stdout.isatty() else 4096
    Console(width=width, highlight=False).print(table, soft_wrap=width is not None)


def _idle(report: ModelReport) -> str:
    if report.num_requests or report.idle_seconds is None:
        return ""
    return f"{report.idle_seconds:,.0f} s"
