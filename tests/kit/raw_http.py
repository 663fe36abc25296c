"""HTTP as bytes on a socket, for what no client library would send."""

import io
import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPResponse
from typing import Any, cast

import pytest
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.http.connections import protocols
from gateway.settings.schema import Settings
from tests.kit.platform import IS_WINDOWS
from tests.kit.serving import RunningServer, running_server

PARSERS = ("h11",) if IS_WINDOWS else ("httptools", "h11")


@contextmanager
def running_server_on(parser: str, settings: Settings) -> Iterator[RunningServer]:
    """A server with either of uvicorn's parsers."""
    with pytest.MonkeyPatch.context() as patch:
        if parser == "h11":
            patch.setattr(protocols.importlib.util, "find_spec", lambda _: None)
        kind = protocols.protocol_class(settings.server)
    assert issubclass(kind, H11Protocol) is (parser == "h11")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.commands.serving.server.protocol_class", lambda _: kind)
        with running_server(settings) as server:
            yield server


def answer_to(server: RunningServer, *parts: bytes) -> bytes:
    """All that comes until the server closes."""
    with server.connect() as client:
        for part in parts:
            client.sendall(part)
        return read_all(client)


def read_all(client: socket.socket) -> bytes:
    received = b""
    while data := client.recv(65_536):
        received += data
    return received


def head(line: str, *headers: str) -> bytes:
    """The first line and the headers of a request."""
    return "\r\n".join([line, *headers]).encode() + b"\r\n\r\n"


def chunked(body: bytes, size: int) -> bytes:
    """A body in chunks of `size` bytes."""
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


class _StaysOpen(io.BytesIO):
    """Stands for a socket and its file; more than one response is read from it."""

    def makefile(self, _: str) -> "_StaysOpen":
        return self

    def close(self) -> None:
        """The next response is behind this one."""


def responses(received: bytes) -> Sequence[tuple[HTTPResponse, bytes]]:
    """Each response with its body."""
    stream = _StaysOpen(received)
    found = []
    while stream.tell() < len(received):
        response = HTTPResponse(cast(Any, stream))
        response.begin()
        found.append((response, response.read()))
    return found


def error_code(body: bytes) -> str:
    """The code in the envelope."""
    code: str = json.loads(body)["error"]["code"]
    return code
