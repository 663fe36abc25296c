"""Answers to HTTP/1.0, which knows no chunks: the end of the connection is that of the body."""

from typing import Any


def end_by_closing(cycle: Any) -> None:
    """Makes uvicorn's `cycle` of one request on httptools write a body of unknown length as it is.
    The connection is closed after every answer to HTTP/1.0."""
    send = cycle.send
    is_declared = False

    async def send_plain(message: Any) -> None:
        nonlocal is_declared
        if message["type"] == "http.response.start":
            is_declared = any(name.lower() == b"content-length" for name, _ in message["headers"])
            if not is_declared:
                cycle.chunked_encoding = False
        elif not is_declared:
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    cycle.send = send_plain
