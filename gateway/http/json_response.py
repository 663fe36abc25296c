"""A response whose body is written already, as JSON mostly."""

import asyncio
from collections.abc import Mapping

from litestar.types import Receive, Scope, Send

AT_ONCE = 1_000_000
"""Bytes that are written at once; then others have their turn."""


class JSONBytes:
    """A finished body, of JSON unless `media_type` says otherwise."""

    def __init__(
        self,
        body: bytes,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str = "application/json",
    ) -> None:
        self._body = body
        self._status = status
        self._headers = [
            (b"content-type", media_type.encode()),
            (b"content-length", b"%d" % len(body)),
            *((name.encode(), value.encode()) for name, value in (headers or {}).items()),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self._status,
                "headers": self._headers,
            }
        )
        for start in range(0, len(self._body) - AT_ONCE, AT_ONCE):
            piece = self._body[start : start + AT_ONCE]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(0)
        last = self._body[(len(self._body) - 1) // AT_ONCE * AT_ONCE :] if self._body else b""
        await send({"type": "http.response.body", "body": last, "more_body": False})
