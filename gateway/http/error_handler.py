"""Converts exceptions to error responses."""

from typing import Any

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException

from gateway.errors import ErrorBody, ErrorReply, to_reply
from gateway.generation.writer import encode
from gateway.http.other_paths import ACTIONS
from gateway.http.route_facts import facts_of
from gateway.observability.request_record import RequestRecord
from runtime.errors import InvalidRequest

log = structlog.get_logger(__name__)

HTTP_CODES = {
    404: ("unknown_url", "There is nothing at {method} {path}."),
    405: ("method_not_allowed", "{path} does not take {method}."),
    413: ("request_too_large", "The body is too large."),
}
"""Statuses that the router and the body reader refuse with: status to `code` and message."""


def handle_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Litestar's exception handler for everything. The envelope is that of the route's API."""
    request_record = RequestRecord.of(request.scope)
    if isinstance(error, InvalidRequest):
        error.rename(request_record.param_names)
    if isinstance(error, HTTPException) and error.status_code < 500:
        reply = _http_reply(request, error)
    else:
        reply = to_reply(error, request_record.request_id)
    request_record.error_code = reply.body.code
    if reply.status == 500:
        log.error("request_failed", request_id=request_record.request_id, exc_info=error)
    return Response(
        encode(facts_of(request.scope.get("route_handler")).envelope.of(reply)),
        status_code=reply.status,
        headers=reply.headers,
        media_type="application/json",
    )


def _http_reply(request: Request[Any, Any, Any], error: HTTPException) -> ErrorReply:
    path = request.scope["path"]
    status = 404 if error.status_code == 405 and path in ACTIONS else error.status_code
    code, message = HTTP_CODES.get(status, ("invalid_request", error.detail))
    if status in HTTP_CODES:
        message = message.format(method=request.method, path=path)
    if status == 404:
        message += _hint(request)
    allow = (error.headers or {}).get("allow") if status == error.status_code else None
    body = ErrorBody(message, "invalid_request_error", None, code)
    return ErrorReply(status, body, {"allow": allow} if allow else {})


def _hint(request: Request[Any, Any, Any]) -> str:
    path = request.scope["path"]
    meant = request.app.state.context.other_paths.meant(path)
    return f" Do you mean {meant}?" if meant and meant != path else ""
