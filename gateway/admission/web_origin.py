"""Whether a web page may be behind a request to a server that asks for no key. Pure.

A server on loopback is reachable for every page that its user's browser shows: by a name of the
attacker's that resolves to 127.0.0.1 (DNS rebinding, seen in `Host`), or by a request that the page
sends without being allowed to read the answer (seen in `Origin`). A key stops both, because a page
does not know it.
"""

import ipaddress
from collections.abc import Collection

_RESERVED = (".localhost", ".local", ".internal", ".lan", ".home.arpa", ".test", ".home")
"""Ends of names that nobody can register in the public DNS, so that no attacker has one."""


def is_own_host(host: str, allowed: Collection[str]) -> bool:
    """Whether the `Host` header is an address or a name that cannot be an attacker's, or one of
    `allowed`; `"*"` there allows every name. No header at all is no browser."""
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
