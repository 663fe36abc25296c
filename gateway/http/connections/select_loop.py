"""The event loop on Windows, where it watches sockets with `select`.

Python's `select` takes 512 sockets there. One more, and the call fails, and the loop ends with it.
"""

import asyncio
import errno
import selectors
import sys
from typing import Any

MAX_SOCKETS = 512

MAX_CONNECTIONS = 480 if sys.platform == "win32" else None
"""Connections that the server takes at the same time; None: as many as it gets descriptors for. The
rest is for its own sockets, and for TLS handshakes that are not over."""


class _Selector(selectors.SelectSelector):
    """Refuses a socket instead of failing with all others. Its connection ends when the time for
    its headers, or for its handshake, is over."""

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        if len(self.get_map()) >= MAX_SOCKETS:
            raise OSError(errno.EMFILE, "select watches no more sockets")
        return super().register(fileobj, events, data)


class SelectLoop(asyncio.SelectorEventLoop):
    """asyncio's loop on `select`, whatever else the system has."""

    def __init__(self) -> None:
        super().__init__(_Selector())
