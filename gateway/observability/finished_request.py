"""The record of a finished request."""

from collections.abc import Iterable
from typing import Protocol

from msgspec import Struct

from gateway.observability.request_record import RequestRecord


class FinishedRequest(Struct, frozen=True):
    """An HTTP request that is over, `seconds` after it arrived. `operation` is the route's
    operation name in OpenTelemetry's GenAI conventions."""

    request_record: RequestRecord
    method: str
    endpoint: str
    operation: str
    headers: Iterable[tuple[bytes, bytes]]
    seconds: float


class Tracer(Protocol):
    """Takes finished requests. `record` returns at once and never raises; `close` sends the
    remaining ones within seconds."""

    def record(self, request: FinishedRequest) -> None: ...

    def close(self) -> None: ...
