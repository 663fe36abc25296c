"""The server's certificate: checked, and shown anew when its files have changed."""

import hashlib
import os
import ssl
from functools import partial
from pathlib import Path

from gateway.http.connections.handshakes import ShownCertificate
from gateway.reload.part import Change
from gateway.settings.schema import ServerSettings, Settings
from runtime.errors import SetupError


def check_tls(server: ServerSettings) -> None:
    """Raises SetupError if certificate and key cannot be used."""
    if server.tls_certificate:
        tls_context(server)
    elif server.tls_key:
        raise SetupError("server.tls_key is set without server.tls_certificate")


def tls_context(server: ServerSettings) -> ssl.SSLContext:
    """A context with certificate and key. Raises SetupError if they cannot be used."""
    for name in ("tls_certificate", "tls_key"):
        file = getattr(server, name)
        if file and not os.access(file, os.R_OK):
            raise SetupError(f"server.{name}: {file} cannot be read")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(server.tls_certificate, server.tls_key or None, password="")
    except (OSError, ssl.SSLError) as error:
        raise SetupError(
            f"server.tls_certificate: {server.tls_certificate} and its key are not usable: {error}."
            " Both have to be PEM files that belong together, the key without a password"
        ) from error
    return context


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
