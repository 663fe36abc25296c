"""The certificate and the key of a server, which have to be usable."""

import os
import ssl

from gateway.settings.schema import ServerSettings
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
