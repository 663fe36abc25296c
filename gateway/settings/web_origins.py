"""Names of hosts and origins of web pages in settings: only those that a browser can send.

A browser writes them in one way. Another spelling would never match, and nobody would know why.
"""

import ipaddress
from collections.abc import Callable, Sequence
from contextlib import suppress
from urllib.parse import SplitResult, urlsplit

from gateway.settings.schema import ServerSettings
from runtime.errors import SetupError

EVERY = "*"
_WITHOUT_HOST = ("null", "file://")
"""Origins of pages that come from no server."""

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_NO_NAME = set(" *,;/?#@\\<>\"'`{}|^%[]:")


def check_web_origins(server: ServerSettings) -> None:
    """Raises SetupError for an entry that no request can match. It says what to write instead."""
    _check("cors_allow_origins", server.cors_allow_origins, _origin, "https://chat.example")
    _check("allowed_hosts", server.allowed_hosts, _host, "chat.example")


def _check(
    name: str, entries: Sequence[str], spelling: Callable[[str], str | None], example: str
) -> None:
    for entry in entries:
        right = EVERY if entry == EVERY else spelling(entry)
        if entry == right:
            continue
        advice = f'write "{right}"' if right else f'write it like "{example}", each as an entry'
        raise SetupError(
            f"server.{name}: {entry!r} can match no request of a browser; {advice}, or"
            f' "{EVERY}" alone for all'
        )


def _origin(entry: str) -> str | None:
    """The origin as a browser sends it; None if it is not clear what is meant."""
    if entry in _WITHOUT_HOST:
        return entry
    parts = _split(entry)
    if parts is None or (host := _name(parts.hostname or "")) is None:
        return None
    scheme = parts.scheme or ("http" if _is_local(host) else "https")
    shown = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, _DEFAULT_PORTS.get(scheme)) else f":{parts.port}"
    return f"{scheme}://{shown}{port}"


def _host(entry: str) -> str | None:
    """The name in a header `Host`, in either case; None if it is not clear what is meant."""
    parts = _split(entry)
    host = _name((parts.hostname or "").rstrip(".")) if parts is not None else None
    return entry if host == entry.lower() else host


def _split(entry: str) -> SplitResult | None:
    text = entry.strip()
    if "://" not in text:
        bare = text.strip("/")
        text = f"//[{bare}]" if _address(bare) and ":" in bare else f"//{bare}"
    with suppress(ValueError):  # brackets or a port that cannot be
        parts = urlsplit(text)
        return parts if parts.port != 0 and parts.username is None else None
    return None


def _name(host: str) -> str | None:
    """In lower case and in ASCII; None if no host can have this name."""
    if address := _address(host):
        return address
    with suppress(UnicodeError):
        name = host.lower() if host.isascii() else host.encode("idna").decode()
        return name if name and not set(name) & _NO_NAME and name.isprintable() else None
    return None


def _address(host: str) -> str:
    with suppress(ValueError):
        return ipaddress.ip_address(host).compressed
    return ""


def _is_local(host: str) -> bool:
    return host == "localhost" or bool(_address(host))
