"""Whether a web page may have sent a request to a server without keys. Pure.

Any page in the user's browser can reach a server on loopback: by an attacker's name that resolves
to 127.0.0.1 (DNS rebinding, visible in `Host`), or by a request whose answer the page may not read
(visible in `Origin`). A key stops both, because a page does not know it.
"""

import ipaddress
from collections.abc import Collection

_RESERVED = (".localhost", ".local", ".internal", ".lan", ".home.arpa", ".test", ".home")
"""Suffixes that cannot be registered in the public DNS, so an attacker cannot own such a name."""


def is_own_host(host: str, allowed: Collection[str]) -> bool:
    """Whether the `Host` header is an address, a name that an attacker cannot own, or one of
    `allowed`; `"*"` there allows every name. A request without the header is not from a browser."""
    name = host_name(host)
    if not name or "*" in allowed or name in {item.lower() for item in allowed}:
        return True
    return _is_address(name) or "." not in name or name.endswith(_RESERVED)


def is_own_page(origin: str, host: str, allowed: Collection[str]) -> bool:
    """Whether the page that sent the request came from this server, or is one of `allowed`, which
    are origins such as `https://chat.example`; `"*"` allows every page."""
    if "*" in allowed or origin in allowed:
        return True
    return bool(host) and origin.partition("://")[2].lower() == host.strip().lower()


def host_name(host: str) -> str:
    """The name in a `Host` header: lower case, without port, brackets and final dot."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
