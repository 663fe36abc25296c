"""Clients that do not speak TLS on a port that does."""

import asyncio
import queue
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from typing import Any

import pytest

from gateway.http.connections.handshakes import ShownCertificate, loop_class
from tests.kit.certificates import Certificate, make_certificate
from tests.kit.raw_http import error_code, head
from tests.kit.serving import PATIENCE

HANDSHAKE_SECONDS = 0.2


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


def kinds() -> list[Any]:
    if sys.platform == "win32":
        return [asyncio.SelectorEventLoop]
    uvloop = pytest.importorskip("uvloop")
    return [asyncio.SelectorEventLoop, uvloop.Loop]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module", params=kinds(), ids=lambda kind: kind.__module__)
def kind(request: pytest.FixtureRequest) -> Any:
    """The event loop of the server."""
    return request.param


@pytest.fixture(scope="module")
def port(kind: Any, certificate: Certificate) -> Iterator[int]:
    """Where an echo listens, over TLS."""
    with listening(loop_class(kind, PATIENCE, ShownCertificate()), certificate) as port:
        yield port


@pytest.fixture(scope="module")
def hasty_port(kind: Any, certificate: Certificate) -> Iterator[int]:
    """The same with `HANDSHAKE_SECONDS` for a handshake, which a good client may miss too."""
    with listening(loop_class(kind, HANDSHAKE_SECONDS, ShownCertificate()), certificate) as port:
        yield port


@contextmanager
def listening(loop_factory: Any, certificate: Certificate) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    listener = socket.create_server(("127.0.0.1", 0))
    running: queue.SimpleQueue[Any] = queue.SimpleQueue()

    async def serve() -> None:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        async with await loop.create_server(Echo, sock=listener, ssl=context) as server:
            running.put((loop, over))
            await over.wait()
            server.close()

    def run() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    loop, over = running.get(timeout=PATIENCE)
    yield listener.getsockname()[1]
    loop.call_soon_threadsafe(over.set)
    thread.join(PATIENCE)


def sent(port: int, data: bytes) -> bytes:
    """What comes until the server closes."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        client.sendall(data)
        try:
            while part := client.recv(65_536):
                received += part
        except ConnectionResetError:
            pass
    return received


@pytest.mark.parametrize(
    "data",
    [
        *(head(f"{method} /v1/models HTTP/1.1", "Host: x") for method in ("GET", "POST", "PATCH")),
        *(head(f"{method} /v1/models HTTP/1.0") for method in ("HEAD", "DELETE", "OPTIONS")),
        head("CONNECT x:443 HTTP/1.1", "Host: x"),
        head("POST / HTTP/1.1", "Host: x", "Content-Length: 1000000") + b"x" * 1_000_000,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_plain_http_is_told_to_use_https(port: int, data: bytes):
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        client.sendall(data)
        response = HTTPResponse(client)
        response.begin()
        assert error_code(response.read()) == "https_required"
    assert (response.status, response.reason) == (400, "Bad Request")
    assert response.getheader("connection") == "close"


@pytest.mark.parametrize(
    "data", [b"", b"G", b"\x16\x03\x01\x02\x00\x01\x00", b"\x16\x03\x01\x00\x05hello"]
)
def test_a_handshake_that_never_ends_gets_no_http(hasty_port: int, data: bytes):
    assert b"HTTP" not in sent(hasty_port, data)


def test_tls_is_served_as_ever(port: int, certificate: Certificate):
    trust = ssl.create_default_context(cafile=certificate.certificate)
    trust.check_hostname = False
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE) as plain,
        trust.wrap_socket(plain) as client,
    ):
        client.sendall(b"GET / HTTP/1.1")
        assert client.recv(100) == b"GET / HTTP/1.1"


def test_a_client_that_does_not_trust_the_server_gets_an_alert(port: int):
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")
