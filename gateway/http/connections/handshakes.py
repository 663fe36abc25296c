"""The time that a client may take for a TLS handshake."""

import asyncio
from typing import Any


def loop_class(kind: Any, seconds: float) -> type[asyncio.AbstractEventLoop]:
    """The event loop `kind`, whose servers over TLS end a handshake after so many seconds; its own
    limit is a minute. uvicorn has no setting for it."""

    async def create_server(self: Any, *args: Any, **options: Any) -> Any:
        if options.get("ssl") is not None:
            options["ssl_handshake_timeout"] = seconds
        return await kind.create_server(self, *args, **options)

    made: type[asyncio.AbstractEventLoop] = type("Loop", (kind,), {"create_server": create_server})
    return made
