"""What uvicorn's connections on h11 leave out and those on httptools have."""

import asyncio
from typing import Any
from urllib.parse import unquote

import h11
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl

from gateway.http.connections.early_answers import close_after_early_answer
from gateway.http.connections.limits import MAX_HEADERS, MAX_TARGET_BYTES, Limited
from gateway.http.connections.targets import to_origin_form

_FRAMING = frozenset((b"content-length", b"transfer-encoding"))
_MAX_EVENTS = 500
"""Parts of requests, such as chunks of a body, that one turn of the event loop takes in. h11 needs
about 10 µs for each."""


class OnH11(Limited):
    """Takes whole URLs as targets, refuses requests whose end is unclear or whose head is too
    large, lets others have their turn between many small chunks, and ends connections that an
    early answer leaves open."""

    conn: "_Strict"
    flow: "_Flow"
    _turn: asyncio.Handle | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        most = self.config.h11_max_incomplete_event_size
        self.conn = _Strict(
            h11.SERVER, **({} if most is None else {"max_incomplete_event_size": most})
        )

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.flow = _Flow(transport)

    def handle_events(self) -> None:
        before = self.cycle
        self.conn.num_left = _MAX_EVENTS
        super().handle_events()
        self._take_turns()
        if self.cycle is not before:  # its work begins later
            _in_origin_form(self.cycle.scope)
            close_after_early_answer(self.cycle, self.part)

    def eof_received(self) -> bool:  # type: ignore[override]
        while self._has_more:
            self.handle_events()
        return super().eof_received()

    @property
    def _has_more(self) -> bool:
        """Whether parts may be left that came with the last read."""
        is_open = self._parting is None and not self.transport.is_closing()
        return is_open and not self.conn.num_left

    def _take_turns(self) -> None:
        was_held, self.flow.is_held = self.flow.is_held, self._has_more
        if self.flow.is_held:
            self.flow.pause_reading()
            if self._turn is None:
                self._turn = self.loop.call_soon(self._handle_more)
        elif was_held and not self._must_wait:
            self.flow.resume_reading()

    def _handle_more(self) -> None:
        self._turn = None
        if self._has_more:
            self.handle_events()

    @property
    def _must_wait(self) -> bool:
        """Whether uvicorn itself has paused: for an earlier answer, or for a body to be taken."""
        cycle: Any = self.cycle  # None until the first request has come
        is_full = cycle is not None and len(cycle.body) > HIGH_WATER_LIMIT
        return self.conn.is_paused or is_full

    def send_400_response(self, msg: str) -> None:
        if self.conn.has_too_many_headers:
            self.refuse_headers()
        elif self.conn.has_long_target:
            self.refuse_target()
        else:
            super().send_400_response(msg)

    @property
    def _is_in_body(self) -> bool:
        return self.conn.their_state is h11.SEND_BODY


class _Flow(FlowControl):
    """Reads nothing while it is held."""

    is_held = False

    def resume_reading(self) -> None:
        if not self.is_held:
            super().resume_reading()


class _Strict(h11.Connection):
    """h11 reads a request with a length and chunks by its chunks. A proxy in front may have read it
    by its length, and has then let a second request pass that it has not seen."""

    has_too_many_headers = False
    has_long_target = False
    is_paused = False
    num_left = _MAX_EVENTS

    def next_event(self) -> Any:
        """The next event; NEED_DATA too after `num_left` events, although there may be more."""
        if not self.num_left:
            return h11.NEED_DATA
        event = super().next_event()
        self.num_left -= 1
        self.is_paused = event is h11.PAUSED
        if isinstance(event, h11.Request):
            self._check(event)
        return event

    def _check(self, request: h11.Request) -> None:
        if {name for name, _ in request.headers} >= _FRAMING:
            raise h11.RemoteProtocolError("both Content-Length and Transfer-Encoding")
        if len(request.headers) > MAX_HEADERS:
            self.has_too_many_headers = True
            raise h11.RemoteProtocolError("too many headers")
        if len(request.target) > MAX_TARGET_BYTES:
            self.has_long_target = True
            raise h11.RemoteProtocolError("the target is too long")


def _in_origin_form(scope: Any) -> None:
    raw = scope["raw_path"]
    path = to_origin_form(scope["method"].encode(), raw, scope["headers"])
    if path != raw:
        scope["raw_path"], scope["path"] = path, unquote(path.decode("ascii"))
