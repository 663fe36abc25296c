"""What a request asks for: its target, in whichever form it comes.

A client that takes the server for a proxy sends the whole URL. Every server has to understand that,
and the host in it counts for more than the header `Host` (RFC 9112, 3.2.2).
"""

import re
from collections.abc import MutableSequence

_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)

Headers = MutableSequence[tuple[bytes, bytes]]


def to_origin_form(method: bytes, target: bytes, headers: Headers) -> bytes:
    """The target as a path with its query. The host of a URL becomes the header `Host`, unless
    there is no such header to take its place, or more than one: that is a mistake."""
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        return target
    host, rest = absolute.groups()
    places = [place for place, (name, _) in enumerate(headers) if name == b"host"]
    if len(places) == 1:
        headers[places[0]] = (b"host", host)
    if not rest and method == b"OPTIONS":
        return b"*"
    return bytes(rest) if rest.startswith(b"/") else b"/" + rest
