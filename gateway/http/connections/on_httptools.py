"""What uvicorn's connections on httptools leave out and those on h11 have."""

import contextlib
from collections import deque
from typing import Any

import httptools

from gateway.http.connections.early_answers import close_after_early_answer
from gateway.http.connections.limits import MAX_HEADERS, MAX_TARGET_BYTES, Limited, response
from gateway.http.connections.targets import to_origin_form
from gateway.http.connections.until_closed import end_by_closing

MAX_PIPELINED = 16
"""Requests that a connection may send ahead of the answer that it waits for."""


class OnHttpTools(Limited):
    """Counts headers and their bytes as they arrive, because httptools does not limit them, and the
    requests that wait for an earlier answer, because uvicorn takes in all that were sent; refuses
    one when those before it are answered, and tells all of them that the client has left; adds what
    one read brings of a body as one piece; reads requests that offer another protocol; writes to
    HTTP/1.0 without chunks, and nothing before the answer; takes whole URLs as targets, and ends
    connections that an early answer leaves open."""

    _in_head = False
    _is_in_body = False
    _head_bytes = 0
    _plain_head = b""
    _last_words = b""
    _pieces: list[bytes]
    _unanswered: deque[Any]
    url: bytes = b""
    expect_100_continue: bool
    pipeline: deque[Any]
    parser: "_NeverUpgrades"

    def connection_made(self, transport: Any) -> None:
        self._pieces = []
        self._unanswered = deque()
        super().connection_made(transport)
        self.parser = _NeverUpgrades(self)

    def connection_lost(self, exc: Exception | None) -> None:
        for cycle in self._unanswered:
            cycle.disconnected = True
            cycle.message_event.set()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()  # type: ignore[misc]
        self._in_head, self._head_bytes = True, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)  # type: ignore[misc]
        if len(self.headers) > MAX_HEADERS:
            raise ValueError("too many headers")  # ends in send_400_response

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = len(self.url) + sum(
            len(name) + len(value) for name, value in self.headers
        )
        if self._head_bytes > self.limits.max_header_bytes:
            raise ValueError("the headers are too large")  # ends in send_400_response
        if len(self.url) > MAX_TARGET_BYTES:
            raise ValueError("the target is too long")
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError("too many requests wait")
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._plain_head = self._head_without_upgrade()
            return
        self.url = to_origin_form(self.parser.get_method(), self.url, self.headers)
        if not self.url.startswith((b"/", b"*")):
            raise ValueError("neither a path nor a URL of HTTP")
        is_older = self.parser.get_http_version() == "1.0"
        self.expect_100_continue = self.expect_100_continue and not is_older
        super().on_headers_complete()  # type: ignore[misc]
        self._unanswered.append(self.cycle)
        self._is_in_body = True
        close_after_early_answer(self.cycle, self.part)
        if is_older:
            end_by_closing(self.cycle)

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)

    def add_pieces(self) -> None:
        """Adds to the body what one read has brought of it. A chunk of a byte is only noted until
        then."""
        if self._pieces:
            body = b"".join(self._pieces)
            self._pieces.clear()
            super().on_body(body)  # type: ignore[misc]

    def on_message_complete(self) -> None:
        self.add_pieces()
        self._is_in_body = False
        if not self._plain_head:
            super().on_message_complete()  # type: ignore[misc]

    def on_response_complete(self) -> None:
        self._unanswered.popleft()
        is_last = bool(self._last_words) and not self._unanswered
        if is_last and not self.transport.is_closing():
            self.transport.write(self._last_words)
        super().on_response_complete()
        if is_last:
            self.part()

    def refuse(self, status: int, code: str, message: str) -> None:
        """Refuses what came last. Requests before it are answered first."""
        if self._is_in_body and len(self._unanswered) > 1:
            self._drop_newest()
        if self._is_in_body or not self._unanswered:
            super().refuse(status, code, message)
        else:
            self._last_words = self._last_words or response(status, code, message)

    def _drop_newest(self) -> None:
        """Forgets the request whose body is not complete, and which waits for its turn."""
        self.pipeline.popleft()
        self._unanswered.pop()
        self.cycle = self._unanswered[-1]
        self._is_in_body = False

    def take_plain_head(self) -> bytes:
        """The head of a request that the parser has left for another protocol, without that
        offer."""
        head, self._plain_head = self._plain_head, b""
        return head

    def _head_without_upgrade(self) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/" + version]
        lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def data_received(self, data: bytes) -> None:
        if self._last_words:
            return
        super().data_received(data)
        if self._in_head and self._parting is None and not self._last_words:
            self._head_bytes += len(data)
            if self._head_bytes > self.limits.max_header_bytes:
                self.send_400_response("")

    def send_400_response(self, msg: str) -> None:
        limit = self.limits.max_header_bytes
        if len(self.pipeline) >= MAX_PIPELINED:
            message = f"More than {MAX_PIPELINED} requests wait for the answer to an earlier one."
            self.refuse(400, "too_many_pipelined", message)
        elif len(self.headers or ()) > MAX_HEADERS:
            self.refuse_headers()
        elif len(self.url) > MAX_TARGET_BYTES:
            self.refuse_target()
        elif self._head_bytes > limit:
            self.refuse(431, "headers_too_large", f"The headers have more than {limit} bytes.")
        else:
            super().send_400_response(msg)


class _NeverUpgrades:
    """httptools' parser, for a server without other protocols.

    After the head of a request with `Upgrade`, httptools takes all further bytes for the other
    protocol, the body included. Here the request is read again without that header.
    """

    def __init__(self, protocol: OnHttpTools) -> None:
        self._protocol = protocol
        self._begin()

    def _begin(self) -> None:
        parser = httptools.HttpRequestParser(self._protocol)
        with contextlib.suppress(AttributeError):  # httptools before 0.6.3, as in uvicorn
            parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._parser = parser
        self.get_http_version = parser.get_http_version
        self.get_method = parser.get_method
        self.should_keep_alive = parser.should_keep_alive
        self.should_upgrade = parser.should_upgrade

    def feed_data(self, data: bytes) -> None:
        while data:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                (num_read,) = upgrade.args
                data = self._protocol.take_plain_head() + data[num_read:]
                self._begin()  # the former one may refuse to read on
            else:
                break
        self._protocol.add_pieces()
