"""What uvicorn's connections on h11 leave out and those on httptools have."""

from typing import Any
from urllib.parse import unquote

import h11

from gateway.http.connections.early_answers import close_after_early_answer
from gateway.http.connections.limits import MAX_HEADERS, Limited
from gateway.http.connections.targets import to_origin_form

_FRAMING = frozenset((b"content-length", b"transfer-encoding"))


class OnH11(Limited):
    """Takes whole URLs as targets, refuses requests whose end is unclear or that have too many
    headers, and ends connections that an early answer leaves open."""

    conn: "_Strict"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        most = self.config.h11_max_incomplete_event_size
        self.conn = _Strict(
            h11.SERVER, **({} if most is None else {"max_incomplete_event_size": most})
        )

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:  # its work begins later
            _in_origin_form(self.cycle.scope)
            close_after_early_answer(self.cycle, self.part)

    def send_400_response(self, msg: str) -> None:
        if self.conn.has_too_many_headers:
            self.refuse_headers()
        else:
            super().send_400_response(msg)

    @property
    def _is_in_body(self) -> bool:
        return self.conn.their_state is h11.SEND_BODY


class _Strict(h11.Connection):
    """h11 reads a request with a length and chunks by its chunks. A proxy in front may have read it
    by its length, and has then let a second request pass that it has not seen."""

    has_too_many_headers = False

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._check(event)
        return event

    def _check(self, request: h11.Request) -> None:
        if {name for name, _ in request.headers} >= _FRAMING:
            raise h11.RemoteProtocolError("both Content-Length and Transfer-Encoding")
        if len(request.headers) > MAX_HEADERS:
            self.has_too_many_headers = True
            raise h11.RemoteProtocolError("too many headers")


def _in_origin_form(scope: Any) -> None:
    raw = scope["raw_path"]
    path = to_origin_form(scope["method"].encode(), raw, scope["headers"])
    if path != raw:
        scope["raw_path"], scope["path"] = path, unquote(path.decode("ascii"))
