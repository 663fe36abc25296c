"""A server from its application to the last drained request."""

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import uvicorn
from litestar import Litestar
from msgspec import Struct

from gateway.admission.drain import Drain
from gateway.admission.keys import KeyRing
from gateway.app import create_app
from gateway.commands.models_on_disk import one_by_one
from gateway.commands.serving.address import check_exposure
from gateway.commands.serving.certificate import CertificateFiles
from gateway.commands.serving.models import check_engine, find_problems, is_installed, warn_of
from gateway.http.connections.handshakes import ShownCertificate, loop_class
from gateway.http.connections.protocols import protocol_class, use
from gateway.http.connections.select_loop import SelectLoop
from gateway.http.connections.server import Ends, Server, Watch
from gateway.http.context import Context
from gateway.observability.background_writer import BackgroundWriter, stderr_in_background
from gateway.observability.log import configure_logging
from gateway.observability.service_manager import ServiceManager
from gateway.reload.part import Change
from gateway.reload.parts import told
from gateway.reload.reloader import Reloader
from gateway.settings.schema import ServerSettings, Settings
from gateway.settings.source import SettingsSource
from runtime.client.service_rate import DEFAULT_RETRY_AFTER
from runtime.errors import EngineUnavailable
from runtime.version import __version__

_EXIT_STARTUP_FAILED = 3
_LAST_WORDS_SECONDS = 5
_LAST_LINES_SECONDS = 0.2


class Prepared(Struct, frozen=True, kw_only=True):
    """All that has been checked before a server starts. `model_paths` are the files or folders of
    its models by name, and `problems` say by name which of them cannot be used."""

    settings: Settings
    source: SettingsSource
    keys: KeyRing
    model_paths: Mapping[str, str]
    problems: Mapping[str, str]
    manager: ServiceManager


def serve(prepared: Prepared, listener: socket.socket, *, until_stdin_ends: bool) -> int:
    """Serves until a signal or an admin ends the server. Returns the exit code."""
    settings, keys, problems = prepared.settings, prepared.keys, prepared.problems
    names = list(prepared.model_paths)
    with stderr_in_background() as stderr:
        configure_logging(settings.log)
        warn_of(problems)
        drain = Drain(settings.server.drain_timeout)
        app = create_app(settings, prepared.model_paths, keys, drain, stderr, prepared.source)
        config = uvicorn_config(app, settings.server)
        _have_checked(app.state.context.reloader, keys, problems)
        greeting = _greeting(names, settings.server, listener)
        watch = Watch(prepared.manager, _state_of(app))
        server = Server(config, greeting, drain, _ends(app, stderr), watch)
        _end_with_signals(server)
        if until_stdin_ends:
            threading.Thread(target=_stop_after_stdin, args=(server,), daemon=True).start()
        server.run(sockets=[listener])
    return 0 if server.started else _EXIT_STARTUP_FAILED


def _have_checked(reloader: Reloader, keys: KeyRing, problems: Mapping[str, str]) -> None:
    """Has changed settings refused that would be refused at the start."""

    def checked(settings: Settings) -> Change:
        check_exposure(settings.server, keys)
        return Change()

    reloader.add(checked)
    reloader.add_check(_engine_check(problems))


def _engine_check(problems: Mapping[str, str]) -> Callable[[Settings], None]:
    """A check that changed settings pass unless a model that is loaded with the server has an
    engine that cannot be used. Of other models it warns, unless that is among the `problems` that
    were found before."""
    said = dict(problems)

    def check(settings: Settings) -> None:
        found = find_problems(one_by_one(settings), check_engine)
        warn_of({name: problem for name, problem in found.items() if said.get(name) != problem})
        said.clear()
        said.update(found)

    return check


def uvicorn_config(app: Litestar, server: ServerSettings) -> uvicorn.Config:
    """The configuration of uvicorn for this application, which follows changed settings."""
    certificate, context = ShownCertificate(), app.state.context
    config = uvicorn.Config(
        app,
        loop=_loop(server, certificate),
        http=protocol_class(server),
        h11_max_incomplete_event_size=server.max_header_bytes,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        # begins after the drain, which has waited for running requests
        timeout_graceful_shutdown=_LAST_WORDS_SECONDS,
        timeout_keep_alive=server.keep_alive_timeout,
        ssl_certfile=server.tls_certificate or None,
        ssl_keyfile=server.tls_key or None,
    )
    connections = told(context.live, lambda s: s.server, partial(use, config))
    files = CertificateFiles(certificate, server, config.ssl_ciphers or "DEFAULT")
    context.reloader.add(connections, files.prepare)
    return config


def _ends(app: Litestar, stderr: BackgroundWriter) -> Ends:
    context: Context = app.state.context
    stopping = EngineUnavailable(
        "The server is stopping and waits no longer for answers (server.drain_timeout, or a second"
        " signal).",
        retry_after=DEFAULT_RETRY_AFTER,
    )

    def cut_off() -> None:
        context.manager.cut_off(stopping)
        context.uploads.cut_off(stopping)

    return Ends(
        cut_off=cut_off,
        abandon=context.manager.abandon,
        say_all=lambda: stderr.flush(_LAST_LINES_SECONDS),
    )


def _state_of(app: Litestar) -> Callable[[], str]:
    """A function that says in a line how the engine is, or how many of the models are loaded."""
    context: Context = app.state.context
    models = list(context.models)
    engine = context.model.engine

    def state() -> str:
        if len(models) == 1:
            return f"Engine {engine.state}. {engine.state_reason}".strip()
        num_ready = sum(model.is_ready for model in models)
        return f"{num_ready} of {len(models)} models loaded."

    return state


def _loop(server: ServerSettings, certificate: ShownCertificate) -> Any:
    """The event loop: uvloop if it is installed; on Windows the loop that can watch the engine's
    socket. Over TLS a handshake has as long as headers have."""
    kind: Any = asyncio.SelectorEventLoop
    if sys.platform == "win32":
        kind = SelectLoop
    elif is_installed("uvloop"):
        import uvloop

        kind = uvloop.Loop
    if not server.tls_certificate:
        return kind
    return loop_class(kind, server.header_timeout, certificate)


def _greeting(names: Sequence[str], server: ServerSettings, listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    if ":" in host:
        host = f"[{host}]"
    name = ", ".join(names)
    scheme = "https" if server.tls_certificate else "http"
    return f"Lockgate {__version__} serves {name} at {scheme}://{host}:{port}/v1 (Ctrl-C stops it)"


def _end_with_signals(server: Server) -> None:
    """Makes the server drain and exit on SIGINT, SIGTERM, and when its terminal is closed (SIGHUP,
    on Windows SIGBREAK, which is Ctrl-Break too), unless nohup ignores that; from now on to the end
    of the process, which is longer than uvicorn does."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, server.handle_exit)


def _stop_after_stdin(server: Server) -> None:
    # os.read: a thread waiting in sys.stdin would hold its lock when the interpreter exits
    while os.read(0, 4096):
        continue
    server.stop()
