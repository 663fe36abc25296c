"""`lockgate serve`: the server, from settings to the last drained request."""

import argparse
import importlib.util
import math
import os
import signal
import socket
import threading
from types import FrameType

import msgspec
import uvicorn

from gateway.app import create_app
from gateway.commands.models_on_disk import ensure_model, find_model, open_store
from gateway.commands.options import add_server_options, add_settings_options, settings_of
from gateway.log import configure_logging
from gateway.settings import ServerSettings, Settings
from runtime import MissingExtra, SetupError, __version__

_BACKLOG = 2048
_EXIT_STARTUP_FAILED = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `lockgate serve`."""
    add_server_options(parser)
    add_settings_options(parser)
    # for programs that start a server for themselves: it ends with them, however they end
    parser.add_argument("--until-stdin-ends", action="store_true", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Serves until SIGINT or SIGTERM. A second SIGINT ends it without waiting for requests."""
    settings = settings_of(arguments)
    _check_engine(settings)
    with bind(settings.server) as listener:
        settings, model_path = prepare_model(settings)
        _listen(listener, settings.server)
        configure_logging(settings.log)
        server = _Server(_uvicorn_config(settings, model_path), _greeting(settings, listener))
        if arguments.until_stdin_ends:
            threading.Thread(target=_stop_after_stdin, args=(server,), daemon=True).start()
        server.run(sockets=[listener])
    return 0 if server.started else _EXIT_STARTUP_FAILED


def prepare_model(settings: Settings) -> tuple[Settings, str]:
    """Settings whose `served_name` is filled in, and the model's file or folder, a file of the
    catalogue pulled if it is missing.

    The scripted engine needs none: its path is the tokenizer's, or empty.
    """
    if settings.engine.name == "scripted":
        return _prepare_scripted(settings)
    if settings.model.tokenizer:
        raise SetupError("model.tokenizer is for the scripted engine alone; leave it empty")
    model = ensure_model(settings)
    return _named(settings, model.name), str(model.path)


def _prepare_scripted(settings: Settings) -> tuple[Settings, str]:
    if not settings.model.tokenizer:
        return _named(settings, "scripted"), ""
    model = open_store(settings).find(settings.model.tokenizer)
    if not model.is_present:
        raise SetupError(f"model.tokenizer: pull it first with: lockgate pull {model.name}")
    return _named(settings, "scripted"), str(model.path)


def _named(settings: Settings, name: str) -> Settings:
    model = msgspec.structs.replace(settings.model, served_name=settings.model.served_name or name)
    return msgspec.structs.replace(settings, model=model)


def _check_engine(settings: Settings) -> None:
    """Finds a wrong name, a wrong kind of model and a missing package before a model is pulled."""
    engine: str = settings.engine.name
    if engine == "scripted":
        return
    find_model(settings)
    if engine == "llama_cpp" and not _installed("llama_cpp"):
        raise MissingExtra("llama-cpp-python", "cpu")
    if engine == "tensorrt_llm" and not _installed("tensorrt_llm"):
        raise MissingExtra("TensorRT-LLM", "tensorrt")


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def bind(server: ServerSettings) -> socket.socket:
    """A bound socket that does not listen yet. `SetupError` says why it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            server.host, server.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise SetupError(f"server.host: {server.host} is not an address: {error}") from error
    listener = socket.socket(family, kind, protocol)
    # On POSIX this allows a restart while old connections linger; on Windows it would allow two
    # servers on one port.
    if os.name == "posix":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _no_socket(server, error) from error
    return listener


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


def _uvicorn_config(settings: Settings, model_path: str) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(settings, model_path),
        loop=_loop(),
        http="httptools" if _installed("httptools") else "h11",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        timeout_graceful_shutdown=math.ceil(settings.server.drain_timeout),
        timeout_keep_alive=settings.server.keep_alive_timeout,
    )


def _loop() -> str:
    """uvloop where there is one; on Windows the loop that can watch the engine's socket."""
    if _installed("uvloop"):
        return "uvloop"
    return "asyncio:SelectorEventLoop" if os.name == "nt" else "asyncio"


def _greeting(settings: Settings, listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    if ":" in host:
        host = f"[{host}]"
    name = settings.model.served_name
    return f"Lockgate {__version__} serves {name} at http://{host}:{port}/v1 (Ctrl-C stops it)"


def _stop_after_stdin(server: uvicorn.Server) -> None:
    # os.read, because a thread inside sys.stdin would hold its lock when the interpreter ends
    while os.read(0, 4096):
        continue
    server.should_exit = True


class _Server(uvicorn.Server):
    """uvicorn that says where it listens, and for which being told to stop is no failure."""

    def __init__(self, config: uvicorn.Config, greeting: str) -> None:
        super().__init__(config)
        self._greeting = greeting

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(self._greeting, flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # the base class would raise the signal again at the end, and so turn it into a failure
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self.force_exit:
            # the base class leaves this out when it is in a hurry, but the engine process must end
            await self.lifespan.shutdown()
