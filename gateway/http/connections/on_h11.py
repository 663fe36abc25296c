"""What uvicorn's connections on h11 leave out."""

from typing import Any

import h11

from gateway.http.connections.limits import Limited

_FRAMING = frozenset((b"content-length", b"transfer-encoding"))


class OnH11(Limited):
    """Refuses requests whose end is unclear."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        most = self.config.h11_max_incomplete_event_size
        self.conn = _Strict(
            h11.SERVER, **({} if most is None else {"max_incomplete_event_size": most})
        )


class _Strict(h11.Connection):
    """h11 reads a request with a length and chunks by its chunks. A proxy in front may have read it
    by its length, and has then let a second request pass that it has not seen."""

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request) and {name for name, _ in event.headers} >= _FRAMING:
            raise h11.RemoteProtocolError("both Content-Length and Transfer-Encoding")
        return event
