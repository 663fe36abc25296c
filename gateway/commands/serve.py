"""`lockgate serve`: the server, from settings to the last drained request."""

import argparse
import asyncio
import contextlib
import importlib.util
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import structlog
import uvicorn
from litestar import Litestar

from gateway.admission.admission import is_loopback
from gateway.admission.drain import Drain
from gateway.admission.keys import KEY_VARIABLE, KeyRing, open_key_ring
from gateway.app import create_app
from gateway.commands.models_on_disk import ensure_model, find_model, one_by_one, open_store
from gateway.commands.options import add_server_options, add_settings_options, source_of
from gateway.commands.serving.certificate import CertificateFiles, check_tls
from gateway.commands.serving.tables import naming_table, problem_of, stops_the_server
from gateway.http.connections.handshakes import ShownCertificate, loop_class
from gateway.http.connections.protocols import protocol_class, use
from gateway.http.connections.select_loop import SelectLoop
from gateway.http.connections.server import Ends, Server, Watch
from gateway.http.context import Context
from gateway.models.templates import read_own_template
from gateway.observability.background_writer import BackgroundWriter, stderr_in_background
from gateway.observability.log import configure_logging
from gateway.observability.service_manager import find_service_manager
from gateway.reload.part import Change
from gateway.reload.parts import told
from gateway.reload.reloader import Reloader
from gateway.settings.schema import ServerSettings, Settings
from runtime.client.service_rate import DEFAULT_RETRY_AFTER
from runtime.config.engines import ENGINES
from runtime.errors import EngineUnavailable, MissingExtra, SetupError
from runtime.hardware.engine_checks import named_library_problem
from runtime.models.adapters.lora_file import check_adapters
from runtime.version import __version__

log = structlog.get_logger(__name__)

_BACKLOG = 2048
_EXIT_STARTUP_FAILED = 3
_LAST_WORDS_SECONDS = 5
_DESCRIPTORS = 65_536
_LAST_LINES_SECONDS = 0.2


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
    models = one_by_one(settings)
    problems = find_problems(models, _check_model)
    _allow_many_connections()
    with bind(settings.server) as listener:
        settings, model_paths = prepare_models(settings, models, problems)
        _listen(listener, settings.server)
        with stderr_in_background() as stderr:
            configure_logging(settings.log)
            _warn(problems)
            drain = Drain(settings.server.drain_timeout)
            app = create_app(settings, model_paths, keys, drain, stderr, source)
            config = uvicorn_config(app, settings.server)
            _have_checked(app.state.context.reloader, keys, problems)
            greeting = _greeting(list(model_paths), settings.server, listener)
            ends = _ends(app, stderr)
            server = Server(config, greeting, drain, ends, Watch(manager, _state_of(app)))
            _end_with_signals(server)
            if arguments.until_stdin_ends:
                threading.Thread(target=_stop_after_stdin, args=(server,), daemon=True).start()
            server.run(sockets=[listener])
    return 0 if server.started else _EXIT_STARTUP_FAILED


def find_problems(
    models: Sequence[Settings], check: Callable[[Settings], object]
) -> dict[str, str]:
    """Why models do not pass a check, by their names. Raises SetupError for a model that is to be
    loaded with the server."""
    found = {each.model.served_name: problem_of(each, check) for each in models}
    return {name: problem for name, problem in found.items() if problem}


def _warn(problems: Mapping[str, str]) -> None:
    for name, problem in problems.items():
        log.warning("model_not_usable", model=name, reason=problem)


def prepare_models(
    settings: Settings, models: Sequence[Settings], problems: dict[str, str]
) -> tuple[Settings, dict[str, str]]:
    """The settings with the names of all models filled in, and the path of each model by its name.
    It is empty for models with `problems`, to which those are added that are found now. Raises
    SetupError."""
    if not settings.models:
        settings, path = prepare_model(settings)
        return settings, {settings.model.served_name: path}
    paths = {each.model.served_name: _path_of(each, problems) for each in models}
    return settings, paths


def _path_of(settings: Settings, problems: dict[str, str]) -> str:
    name = settings.model.served_name
    if name in problems:
        return ""
    try:
        return naming_table(settings, prepare_model)[1]
    except SetupError as error:
        if stops_the_server(settings):
            raise
        problems[name] = str(error)
        return ""


def prepare_model(settings: Settings) -> tuple[Settings, str]:
    """The settings with `served_name` filled in, and the path of the model's file or folder. A
    model of the catalogue is downloaded if it is missing.

    The scripted engine has no model: its path is that of the model whose tokenizer it uses, or
    empty. Raises SetupError.
    """
    if not _needs_model(settings):
        return _prepare_without_model(settings)
    if settings.model.tokenizer:
        raise SetupError("model.tokenizer is for the scripted engine alone; leave it empty")
    never = settings.models and settings.models[settings.model.served_name].load == "never"
    model = find_model(settings) if never else ensure_model(settings)
    if model.is_present:
        check_adapters(settings.engine.adapter_files, str(model.path))
    return _named(settings, model.name), str(model.path)


def _needs_model(settings: Settings) -> bool:
    return ENGINES[settings.engine.name].model_form != "any"


def _prepare_without_model(settings: Settings) -> tuple[Settings, str]:
    name = str(settings.engine.name)
    if not settings.model.tokenizer:
        return _named(settings, name), ""
    model = open_store(settings).find(settings.model.tokenizer)
    if not model.is_present:
        raise SetupError(f"model.tokenizer: pull it first with: lockgate pull {model.name}")
    return _named(settings, name), str(model.path)


def _named(settings: Settings, name: str) -> Settings:
    model = msgspec.structs.replace(settings.model, served_name=settings.model.served_name or name)
    return msgspec.structs.replace(settings, model=model)


def _check_model(settings: Settings) -> None:
    """Raises SetupError for a template, a model or an engine that cannot be used: before anything
    is downloaded."""
    read_own_template(settings.model.chat_template)
    _check_engine(settings)


def _check_engine(settings: Settings) -> None:
    """Raises SetupError for an unknown model, a model that the engine cannot load, a missing
    package and an unusable library: before anything is downloaded."""
    if not _needs_model(settings):
        return
    find_model(settings)
    kind = ENGINES[settings.engine.name]
    if kind.packages and not any(_installed(each.module) for each in kind.packages):
        raise MissingExtra(kind.packages[0].name, kind.extra)
    if problem := named_library_problem(settings.engine):
        raise SetupError(f"engine.llama_cpp.library: {problem}")


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def check_exposure(server: ServerSettings, keys: KeyRing) -> None:
    """Raises SetupError if the server would listen beyond loopback without a key, unless the
    settings allow that."""
    if keys.is_required or server.allow_unauthenticated:
        return
    address = str(_resolve(server)[4][0])
    if not is_loopback(address):
        raise SetupError(
            f"server.host: at {server.host} everybody on the network could use this server, and"
            f" there is no API key. Set {KEY_VARIABLE} or auth.keys_file (a key is made by:"
            " lockgate keys new), or say --allow-unauthenticated"
        )


def bind(server: ServerSettings) -> socket.socket:
    """A bound socket that does not listen yet. Raises SetupError if the address cannot be used."""
    family, kind, protocol, _, address = _resolve(server)
    listener = socket.socket(family, kind, protocol)
    # SO_REUSEADDR allows a restart while old connections linger. On Windows that needs no option,
    # this one would allow two servers on one port, and only the other one forbids them.
    if sys.platform == "win32":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
    else:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _no_socket(server, error) from error
    return listener


def _resolve(server: ServerSettings) -> Any:
    try:
        return socket.getaddrinfo(
            server.host, server.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise SetupError(f"server.host: {server.host} is not an address: {error}") from error


def _listen(listener: socket.socket, server: ServerSettings) -> None:
    try:
        listener.listen(_BACKLOG)
    except OSError as error:
        raise _no_socket(server, error) from error


def _no_socket(server: ServerSettings, error: OSError) -> SetupError:
    reason = (error.strerror or str(error)).lower()
    return SetupError(
        f"cannot listen on {server.host} port {server.port}: {reason}. "
        "Stop what uses it, or choose another port with --port"
    )


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
        found = find_problems(one_by_one(settings), _check_engine)
        _warn({name: problem for name, problem in found.items() if said.get(name) != problem})
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
    elif _installed("uvloop"):
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


def _allow_many_connections() -> None:
    """Raises the limit of open descriptors. A connection takes one, most systems allow a process
    1,024 unless it asks for more, and connections beyond the limit are reset without a message."""
    if sys.platform == "win32":
        return  # Windows has no such limit
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


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
