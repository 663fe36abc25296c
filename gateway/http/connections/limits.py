"""Limits of a connection, for clients that are slow or send too much.

uvicorn itself waits forever for the headers of a new connection and for a client that does not
read, and its faster parser keeps headers of any size. A connection costs a file descriptor, and a
process has about a thousand.
"""

import asyncio
import http
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.errors import ErrorBody, ErrorResponse
from gateway.generation.writer import encode
from gateway.http.connections.half_closed import HalfClosed, can_be_told
from gateway.http.connections.select_loop import MAX_CONNECTIONS
from gateway.settings.schema import ServerSettings

PHRASES = {
    400: "Bad Request",
    408: "Request Timeout",
    414: "URI Too Long",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}

MAX_HEADERS = 1000
"""Headers of a request. Each is handled by itself, so that many short ones take longer than a few
long ones."""

MAX_TARGET_BYTES = 8192
"""Bytes of a request's target. It is decoded, split and matched in the event loop. RFC 9110,
section 4.1, recommends to take at least 8000."""

PARTING_SECONDS = 1.0
"""How long a client that still sends may take to read why the connection ends."""

if TYPE_CHECKING:
    _Base = H11Protocol
else:
    _Base = object


class Limited(_Base):
    """Mixin for uvicorn's protocols. The settings give times in seconds."""

    limits: ServerSettings

    def connection_made(self, transport: Any) -> None:
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._half_closed: HalfClosed | None = None
        self._parting: asyncio.TimerHandle | None = None
        self._has_data = False
        super().connection_made(transport)
        self._start_head_timer()
        if MAX_CONNECTIONS is not None and len(self.connections) > MAX_CONNECTIONS:
            most = f"{MAX_CONNECTIONS} connections, the most that it can watch on this system"
            self.refuse(503, "too_many_connections", f"The server has {most}. Try again later.")

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        if self._half_closed is not None:
            self._half_closed.stop()
        if self._parting is not None:
            self._parting.cancel()
        self.resume_writing()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Lets a client read on that has sent a whole request and ended its sending side."""
        if self._parting is not None:
            return False
        if self._half_closed is None and self._awaits_answer and can_be_told(self.scheme or ""):
            self._half_closed = HalfClosed(self.transport, self._may_probe)
        return self._half_closed is not None

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._half_closed is not None and self._is_between_requests:
            self.transport.close()

    @property
    def _awaits_answer(self) -> bool:
        if self._is_between_requests or self.cycle.more_body:
            return False
        return self.cycle.response_started or self.scope["http_version"] != "1.0"

    def _may_probe(self) -> bool:
        has_pipeline = bool(getattr(self, "pipeline", None))
        return self._awaits_answer and not self.cycle.response_started and not has_pipeline

    def part(self) -> None:
        """Ends the connection to a client that may still send. What it sends is dropped for a
        while: its machine would drop our last answer, unread, if the connection were closed."""
        if self._parting is None and not self.transport.is_closing():
            self._stop_head_timer()
            self._parting = self.loop.call_later(PARTING_SECONDS, self.transport.close)
            if self.transport.can_write_eof():
                self.transport.write_eof()

    def data_received(self, data: bytes) -> None:
        if self._parting is not None:
            return
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

    def _unsupported_upgrade_warning(self) -> None:
        """uvicorn would log each offer of another protocol, which many clients make at all times.
        An answer in HTTP/1.1 declines it."""

    def send_400_response(self, msg: str) -> None:
        self.refuse(400, "invalid_http", "What was sent is not a valid HTTP request.")

    def refuse_headers(self) -> None:
        self.refuse(431, "headers_too_large", f"There are more than {MAX_HEADERS} headers.")

    def refuse_target(self) -> None:
        message = f"The path and the query have more than {MAX_TARGET_BYTES} bytes."
        self.refuse(414, "uri_too_long", message)

    def refuse(self, status: int, code: str, message: str) -> None:
        """Answers input that is not a complete request, and closes the connection. Writes nothing
        into a response that has begun."""
        if self.transport.is_closing() or self._parting is not None:
            return
        if self._is_between_requests or not self.cycle.response_started:
            self.transport.write(response(status, code, message))
        self.part()

    def abort_if_idle(self) -> None:
        """Breaks the connection off unless it has a request, or an answer on its way."""
        if self._is_between_requests and not self.transport.get_write_buffer_size():
            self.transport.abort()

    @property
    def _is_between_requests(self) -> bool:
        cycle: Any = self.cycle  # None until the first request has come
        return cycle is None or cycle.response_complete

    @property
    def _is_in_body(self) -> bool:
        """Whether the rest of a body is to come, perhaps of a request that is answered."""
        raise NotImplementedError

    def _start_head_timer(self) -> None:
        self._has_data = False
        self._head_timer = self.loop.call_later(self.limits.header_timeout, self._head_is_late)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if not self._has_data or self._is_in_body:
            self.transport.close()
            return
        seconds = f"{self.limits.header_timeout:g} seconds (server.header_timeout)"
        self.refuse(408, "header_timeout", f"The headers were not complete after {seconds}.")


def response(status: int, code: str, message: str) -> bytes:
    """An error outside of any request, as HTTP."""
    kind, again = "invalid_request_error", ""
    if status == http.HTTPStatus.SERVICE_UNAVAILABLE:
        kind, again = "server_error", "retry-after: 1\r\n"
    body = encode(ErrorResponse(ErrorBody(message, kind, None, code)))
    head = (
        f"HTTP/1.1 {status} {PHRASES[status]}\r\n"
        "content-type: application/json\r\n"
        f"content-length: {len(body)}\r\n"
        f"{again}"
        "connection: close\r\n\r\n"
    )
    return head.encode() + body
