"""What uvicorn's connections on h11 leave out and those on httptools have."""

from typing import Any
from urllib.parse import unquote

import h11

from gateway.http.connections.early_answers import close_after_early_answer
from gateway.http.connections.limits import Limited
from gateway.http.connections.targets import to_origin_form


class OnH11(Limited):
    """Takes whole URLs as targets, and ends connections that an early answer leaves open."""

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:  # its work begins later
            _in_origin_form(self.cycle.scope)
            close_after_early_answer(self.cycle, self.part)

    @property
    def _is_in_body(self) -> bool:
        return self.conn.their_state is h11.SEND_BODY


def _in_origin_form(scope: Any) -> None:
    raw = scope["raw_path"]
    path = to_origin_form(scope["method"].encode(), raw, scope["headers"])
    if path != raw:
        scope["raw_path"], scope["path"] = path, unquote(path.decode("ascii"))
