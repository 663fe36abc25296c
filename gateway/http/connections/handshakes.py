"""TLS handshakes: the time that a client may take, and clients that do not speak TLS at all."""

import asyncio
import ssl
from typing import Any

from gateway.http.connections.limits import response

HTTPS_REQUIRED = (
    "This port speaks HTTPS, and the request is in plain HTTP. Send it to the same address with"
    " https:// instead of http://."
)
NO_TLS = frozenset({"HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "WRONG_VERSION_NUMBER"})
"""Reasons of OpenSSL for what does not begin like TLS."""


class ShownCertificate:
    """The certificate that a server shows: that of its own context until there is a later one."""

    def __init__(self) -> None:
        self._later: ssl.SSLContext | None = None

    def show(self, context: ssl.SSLContext) -> None:
        """Shows the certificate of this context to clients that connect from now on."""
        context.sslobject_class = _Handshake
        self._later = context

    def shown_by(self, context: Any) -> None:
        """Makes a server's context show this certificate, and answer plain HTTP."""
        own = context.wrap_bio
        context.sslobject_class = _Handshake

        def wrap_bio(*buffers: ssl.MemoryBIO, **options: Any) -> Any:
            wrap: Any = own if self._later is None else self._later.wrap_bio
            handshake = wrap(*buffers, **options)
            handshake.buffers = buffers
            return handshake

        context.wrap_bio = wrap_bio


def loop_class(
    kind: Any, seconds: float, certificate: ShownCertificate
) -> type[asyncio.AbstractEventLoop]:
    """The event loop `kind`, whose servers over TLS end a handshake after so many seconds; its own
    limit is a minute. uvicorn has no setting for it. They show this certificate, and answer plain
    HTTP in plain HTTP."""

    async def create_server(self: Any, *args: Any, **options: Any) -> Any:
        if options.get("ssl") is not None:
            options["ssl_handshake_timeout"] = seconds
            certificate.shown_by(options["ssl"])
        return await kind.create_server(self, *args, **options)

    made: type[asyncio.AbstractEventLoop] = type("Loop", (kind,), {"create_server": create_server})
    return made


class _Handshake(ssl.SSLObject):
    """One that answers a client that does not speak TLS, and then waits until that client leaves or
    its time is over: an error would drop the answer."""

    buffers: tuple[ssl.MemoryBIO, ssl.MemoryBIO]
    _is_over = False

    def do_handshake(self) -> None:
        incoming, outgoing = self.buffers
        if self._is_over:
            incoming.read()
            raise ssl.SSLWantReadError
        try:
            super().do_handshake()
        except ssl.SSLError as error:
            if error.reason not in NO_TLS:
                raise
            self._is_over = True
            incoming.read()
            outgoing.read()  # an alert, which this client would not understand
            outgoing.write(response(400, "https_required", HTTPS_REQUIRED))
            raise ssl.SSLWantReadError from error
