"""The address of a server that is about to start, and who may reach it."""

import contextlib
import socket
import sys
from typing import Any

from gateway.admission.keys import KEY_VARIABLE, KeyRing
from gateway.admission.loopback import is_loopback
from gateway.settings.schema import ServerSettings
from runtime.errors import SetupError

_BACKLOG = 2048
_DESCRIPTORS = 65_536


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


def listen(listener: socket.socket, server: ServerSettings) -> None:
    """Begin to listen. Raises SetupError."""
    try:
        listener.listen(_BACKLOG)
    except OSError as error:
        raise _no_socket(server, error) from error


def _resolve(server: ServerSettings) -> Any:
    try:
        return socket.getaddrinfo(
            server.host, server.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise SetupError(f"server.host: {server.host} is not an address: {error}") from error


def _no_socket(server: ServerSettings, error: OSError) -> SetupError:
    reason = (error.strerror or str(error)).lower()
    return SetupError(
        f"cannot listen on {server.host} port {server.port}: {reason}. "
        "Stop what uses it, or choose another port with --port"
    )


def allow_many_connections() -> None:
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
