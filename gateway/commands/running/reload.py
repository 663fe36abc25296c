"""`lockgate reload`: has the running server read its settings, keys and certificate again."""

import argparse
import http
from collections.abc import Iterator

import httpx
import msgspec

from gateway.admission.keys import ADMIN_KEY_VARIABLE
from gateway.commands.options import add_server_options, add_settings_options, settings_of
from gateway.commands.own_server import admin_header, running_server
from gateway.reload.reloader import ReloadReport
from runtime.errors import SetupError

_DONE = (http.HTTPStatus.OK, http.HTTPStatus.UNPROCESSABLE_ENTITY)
_NO_KEY = (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `lockgate reload`."""
    parser.add_argument(
        "--restart-engine",
        action="store_true",
        help="replace the engine process if a change needs that; answers continue on the next one",
    )
    add_server_options(parser)
    add_settings_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Asks the server at the address of the settings, and prints what it has done. Raises
    SetupError if a mistake has kept the server from changing more than keys."""
    with running_server(settings_of(arguments)) as client:
        report = _reloaded(client, restart_engine=arguments.restart_engine)
    if report.errors:
        changed = f"only {', '.join(report.applied)}" if report.applied else "nothing"
        raise SetupError(f"the server changed {changed}: " + "; ".join(report.errors))
    print("\n".join(_lines(report)))
    return 0


def _reloaded(client: httpx.Client, *, restart_engine: bool) -> ReloadReport:
    where, header = client.base_url, admin_header()
    try:
        answer = client.post(
            "/admin/reload", json={"restart_engine": restart_engine}, headers=header
        )
    except httpx.HTTPError as error:
        raise SetupError(
            f"no Lockgate answers at {where}: {error}. Say where it listens with --host and --port"
        ) from error
    if answer.status_code in _NO_KEY:
        raise SetupError(f"the server at {where} wants an admin's key; set {ADMIN_KEY_VARIABLE}")
    try:
        if answer.status_code in _DONE:
            return msgspec.json.decode(answer.content, type=ReloadReport)
    except msgspec.DecodeError as error:
        raise SetupError(f"what answers at {where} is no Lockgate: {error}") from error
    raise SetupError(f"the server at {where} does not reload: it answers {answer.status_code}")


def _lines(report: ReloadReport) -> Iterator[str]:
    yield from (f"{name}: applied" for name in report.applied)
    if report.restarts_engine:
        yield "The engine process is being replaced; answers continue on the next one."
    for name in report.needs_engine_restart:
        yield f"{name}: needs a new engine process (lockgate reload --restart-engine)"
    yield from (f"{name}: needs a new start of the server" for name in report.needs_server_restart)
    if not (report.applied or report.needs_engine_restart or report.needs_server_restart):
        yield "Nothing has changed."
