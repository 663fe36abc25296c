"""The server's certificate: checked, and shown anew when its files have changed."""

import hashlib
import ssl
from functools import partial
from pathlib import Path

from gateway.commands.serving.tls import tls_context
from gateway.http.connections.handshakes import ShownCertificate
from gateway.reload.part import Change
from gateway.settings.schema import ServerSettings, Settings
from runtime.errors import SetupError


class CertificateFiles:
    """The part of the server that reads certificate and key again. `server` are the settings that
    it was started with, `ciphers` those that it offers."""

    def __init__(self, certificate: ShownCertificate, server: ServerSettings, ciphers: str) -> None:
        self._certificate = certificate
        self._ciphers = ciphers
        self._digest = _digest(server)

    def prepare(self, settings: Settings) -> Change:
        """A `Part`: a certificate or a key that is not the one that clients are shown."""
        server = settings.server
        if not server.tls_certificate:
            return Change()
        context, digest = tls_context(server), _digest(server)
        if digest == self._digest:
            return Change()
        context.set_ciphers(self._ciphers)
        return Change(partial(self._show, context, digest), ("server.tls_certificate",))

    def _show(self, context: ssl.SSLContext, digest: bytes) -> None:
        self._digest = digest
        self._certificate.show(context)


def _digest(server: ServerSettings) -> bytes:
    """What certificate and key are, without keeping them."""
    names = filter(None, (server.tls_certificate, server.tls_key))
    try:
        return hashlib.sha256(b"\0".join(Path(name).read_bytes() for name in names)).digest()
    except OSError as error:
        raise SetupError(f"server.tls_certificate: {error.filename}: {error.strerror}") from error
