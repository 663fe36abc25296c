"""uvicorn's connections, with limits for clients that are slow or send too much.

uvicorn itself waits forever for the headers of a new connection and for a client that does not
read, and its faster parser keeps headers of any size. A connection costs a file descriptor, and a
process has about a thousand.
"""

import asyncio
import importlib.util
from collections import deque
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.errors import ErrorBody, ErrorResponse
from gateway.generation.writer import encode
from gateway.settings.schema import ServerSettings

PHRASES = {
    400: "Bad Request",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
}

MAX_PIPELINED = 16
"""Requests that a connection may send ahead of the answer that it waits for."""

if TYPE_CHECKING:
    _Base = H11Protocol
else:
    _Base = object


class _Limited(_Base):
    """Mixin for uvicorn's protocols. The settings give times in seconds."""

    limits: ServerSettings

    def connection_made(self, transport: Any) -> None:
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._has_data = False
        super().connection_made(transport)
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_between_requests and self._head_timer is None:
            self._start_head_timer()
        self._has_data = True
        super().data_received(data)
        if not self._is_between_requests:
            self._stop_head_timer()

    def pause_writing(self) -> None:
        super().pause_writing()
        # closing would wait for the client to read what is already on its way
        self._write_timer = self.loop.call_later(self.limits.write_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def send_400_response(self, msg: str) -> None:
        self.refuse(400, "invalid_http", "What was sent is not a valid HTTP request.")

    def refuse(self, status: int, code: str, message: str) -> None:
        """Answers input that is not a complete request, and closes the connection. Writes nothing
        into a response that has begun."""
        if self.transport.is_closing():
            return
        if self._is_between_requests or not self.cycle.response_started:
            self.transport.write(_response(status, code, message))
        self.transport.close()

    @property
    def _is_between_requests(self) -> bool:
        cycle: Any = self.cycle  # None until the first request has come
        return cycle is None or cycle.response_complete

    def _start_head_timer(self) -> None:
        self._has_data = False
        self._head_timer = self.loop.call_later(self.limits.header_timeout, self._head_is_late)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if not self._has_data:
            self.transport.close()
            return
        seconds = f"{self.limits.header_timeout:g} seconds (server.header_timeout)"
        self.refuse(408, "header_timeout", f"The headers were not complete after {seconds}.")


def protocol_class(limits: ServerSettings) -> type[asyncio.Protocol]:
    """The class for `uvicorn.Config(http=…)`: on httptools where that is installed, else on h11."""
    base: Any = H11Protocol
    limited: Any = _Limited
    if importlib.util.find_spec("httptools") is not None:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

        base, limited = HttpToolsProtocol, _LimitedHttpTools
    kind: type[asyncio.Protocol] = type("LimitedProtocol", (limited, base), {"limits": limits})
    return kind


class _LimitedHttpTools(_Limited):
    """Counts the bytes of headers as they arrive, because httptools does not limit their size, and
    the requests that wait for an earlier answer, because uvicorn takes in all that were sent."""

    _in_head = False
    _head_bytes = 0
    url: bytes
    pipeline: deque[Any]

    def on_message_begin(self) -> None:
        super().on_message_begin()  # type: ignore[misc]
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = len(self.url) + sum(
            len(name) + len(value) for name, value in self.headers
        )
        if self._head_bytes > self.limits.max_header_bytes:
            raise ValueError("the headers are too large")  # ends in send_400_response
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError("too many requests wait")
        super().on_headers_complete()  # type: ignore[misc]

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > self.limits.max_header_bytes:
                self.send_400_response("")

    def send_400_response(self, msg: str) -> None:
        limit = self.limits.max_header_bytes
        if len(self.pipeline) >= MAX_PIPELINED:
            message = f"More than {MAX_PIPELINED} requests wait for the answer to an earlier one."
            self.refuse(400, "too_many_pipelined", message)
            return
        if self._head_bytes <= limit:
            super().send_400_response(msg)
            return
        self.refuse(431, "headers_too_large", f"The headers have more than {limit} bytes.")


def _response(status: int, code: str, message: str) -> bytes:
    body = encode(ErrorResponse(ErrorBody(message, "invalid_request_error", None, code)))
    head = (
        f"HTTP/1.1 {status} {PHRASES[status]}\r\n"
        "content-type: application/json\r\n"
        f"content-length: {len(body)}\r\n"
        "connection: close\r\n\r\n"
    )
    return head.encode() + body
