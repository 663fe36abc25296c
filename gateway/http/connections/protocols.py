"""The protocol of the server's connections: uvicorn's on httptools or on h11."""

import asyncio
import importlib.util
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.http.connections.on_h11 import OnH11
from gateway.settings.schema import ServerSettings


def use(config: uvicorn.Config, limits: ServerSettings) -> None:
    """Holds the connections of a server to these limits: at once, or from the next connection on
    where uvicorn copies them."""
    config.timeout_keep_alive = limits.keep_alive_timeout
    config.h11_max_incomplete_event_size = limits.max_header_bytes
    kind: Any = config.http
    kind.limits = limits


def protocol_class(limits: ServerSettings) -> type[asyncio.Protocol]:
    """The class for `uvicorn.Config(http=…)`: on httptools where that is installed, else on h11."""
    bases: tuple[Any, ...] = (OnH11, H11Protocol)
    if importlib.util.find_spec("httptools") is not None:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

        from gateway.http.connections.on_httptools import OnHttpTools

        bases = (OnHttpTools, HttpToolsProtocol)
    kind: type[asyncio.Protocol] = type("LimitedProtocol", bases, {"limits": limits})
    return kind
