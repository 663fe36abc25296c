"""`lockgate serve`: the server, from settings to the last drained request."""

import argparse
import os

from gateway.admission.keys import open_key_ring
from gateway.commands.models_on_disk import one_by_one
from gateway.commands.options import add_server_options, add_settings_options, source_of
from gateway.commands.serving.address import allow_many_connections, bind, check_exposure, listen
from gateway.commands.serving.models import check_model, find_problems, prepare_models
from gateway.commands.serving.store import check_store
from gateway.commands.serving.tls import check_tls
from gateway.observability.service_manager import find_service_manager


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `lockgate serve`."""
    add_server_options(parser)
    parser.add_argument(
        "--allow-unauthenticated",
        action="store_true",
        help="listen on other addresses than loopback although no key is needed",
    )
    add_settings_options(parser)
    # for programs that start a server of their own: it exits with them, even if they crash
    parser.add_argument("--until-stdin-ends", action="store_true", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Serves until SIGINT, SIGTERM, SIGHUP, SIGBREAK or an admin's drain request with `exit`; then
    running requests may finish. A second signal aborts them."""
    source = source_of(arguments)
    settings = source.loaded
    keys = open_key_ring(settings.auth, os.environ)
    manager = find_service_manager(os.environ)
    check_exposure(settings.server, keys)
    check_tls(settings.server)
    check_store(settings.store)
    models = one_by_one(settings)
    problems = find_problems(models, check_model)
    allow_many_connections()
    with bind(settings.server) as listener:
        settings, model_paths = prepare_models(settings, models, problems)
        listen(listener, settings.server)
        # the application takes longer to import than mistakes take to be found
        from gateway.commands.serving.server import Prepared, serve

        prepared = Prepared(
            settings=settings,
            source=source,
            keys=keys,
            model_paths=model_paths,
            problems=problems,
            manager=manager,
        )
        return serve(prepared, listener, until_stdin_ends=arguments.until_stdin_ends)
