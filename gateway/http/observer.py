"""Reports a finished request: counters, a log line, a trace."""

import time

from litestar.types import Scope

from gateway.http.context import Context
from gateway.observability.access_log import log_request
from gateway.observability.finished_request import FinishedRequest
from gateway.observability.metrics.server import OPERATIONS
from gateway.observability.request_record import RequestRecord


def observe(request_record: RequestRecord, scope: Scope, context: Context) -> None:
    """Called once per HTTP request."""
    seconds = time.monotonic() - request_record.started
    endpoint = _endpoint(scope)
    method = str(scope.get("method", ""))
    context.metrics.on_response(request_record, endpoint, seconds)
    if context.settings.log.access:
        log_request(request_record, method, endpoint, seconds)
    if context.tracer is not None and endpoint in OPERATIONS:
        operation = OPERATIONS[endpoint]
        context.tracer.record(
            FinishedRequest(request_record, method, endpoint, operation, scope["headers"], seconds)
        )


def _endpoint(scope: Scope) -> str:
    """The route's path. All unknown paths count as one endpoint, which bounds the number of
    labels."""
    return str(scope.get("path_template") or "unknown")
