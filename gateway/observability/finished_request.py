"""What is known of a request when it has ended."""

from collections.abc import Iterable
from typing import Protocol

from msgspec import Struct

from gateway.observability.request_record import RequestRecord


class FinishedRequest(Struct, frozen=True):
    """An HTTP request that is over, `seconds` after it came. `operation` is GenAI's name for what
    the route does."""

    request_record: RequestRecord
    method: str
    endpoint: str
    operation: str
    headers: Iterable[tuple[bytes, bytes]]
    seconds: float


class Tracer(Protocol):
    """Takes finished requests. `record` returns at once and fails for nobody's sake; `close` sends
    what is left, in seconds at most."""

    def record(self, request: FinishedRequest) -> None: ...

    def close(self) -> None: ...
