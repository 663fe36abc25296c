"""The Litestar application, with the work that surrounds every request."""

import time
from typing import cast

from litestar import Litestar, Request
from litestar.config.cors import CORSConfig
from litestar.enums import ScopeType
from litestar.types import (
    ASGIApp,
    HTTPScope,
    LifeSpanReceive,
    LifeSpanScope,
    LifeSpanSend,
    Message,
    Receive,
    Scope,
    Send,
)

from gateway.admission.admission import page_not_allowed
from gateway.admission.drain import Drain
from gateway.bounds.body_memory import give_back
from gateway.http.context import AnyRequest, Context
from gateway.http.deadlines import body_in_time
from gateway.http.error_handler import handle_error
from gateway.http.route_facts import facts_of
from gateway.observability.access_log import log_request
from gateway.observability.finished_request import FinishedRequest
from gateway.observability.request_record import RequestRecord


class Gateway(Litestar):
    """Litestar with a `RequestRecord` around every request, including requests that match no route.
    The record gives each response its id and times, and is observed when the request is over."""

    async def __call__(
        self,
        scope: Scope | LifeSpanScope,
        receive: Receive | LifeSpanReceive,
        send: Send | LifeSpanSend,
    ) -> None:
        if scope["type"] != ScopeType.HTTP:
            await super().__call__(scope, receive, send)
            return
        scope = _as_get(cast(Scope, scope))
        request_record = RequestRecord(scope["headers"])
        request_record.attach(scope)
        context = cast(Context, self.state.context)
        server = context.settings.server
        if server.request_timeout:
            request_record.deadline = request_record.started + server.request_timeout
        receive = body_in_time(cast(Receive, receive), request_record.started, server.body_timeout)
        preflight = _refused_preflight(cast(HTTPScope, scope), self.cors_config)
        app = preflight or super().__call__
        try:
            await app(
                scope, receive, _with_headers(cast(Send, send), request_record, context.drain)
            )
        finally:
            give_back(scope)
            _observe(request_record, scope, context)


def _refused_preflight(scope: HTTPScope, cors: CORSConfig | None) -> ASGIApp | None:
    """The response to a browser's preflight for a page that is not allowed; None for all other
    requests. Litestar's own response is not JSON."""
    if cors is None or scope["method"] != "OPTIONS":
        return None
    request: AnyRequest = Request(scope)
    origin = request.headers.get("origin")
    if not origin or cors.is_origin_allowed(origin):
        return None
    return handle_error(request, page_not_allowed()).to_asgi_response(app=None, request=request)


def _as_get(scope: Scope) -> Scope:
    """Treats HEAD as a GET whose body the server does not send; routes handle only GET."""
    if scope.get("method") != "HEAD":
        return scope
    return cast(Scope, {**scope, "method": "GET"})


def _with_headers(send: Send, request_record: RequestRecord, drain: Drain) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            request_record.status = message["status"]
            headers = [_allow_head(header) for header in message["headers"]]
            # while draining, send the client's next request to another server
            last = [(b"connection", b"close")] if drain.is_draining else []
            message["headers"] = [*headers, *request_record.response_headers(), *last]
        await send(message)

    return send_with_headers


def _allow_head(header: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    name, value = header
    if name.lower() == b"allow" and b"GET" in value and b"HEAD" not in value:
        return name, value + b", HEAD"
    return header


def _observe(request_record: RequestRecord, scope: Scope, context: Context) -> None:
    """Reports a finished request, once: counters, a log line, a trace."""
    seconds = time.monotonic() - request_record.started
    endpoint = _endpoint(scope)
    method = str(scope.get("method", ""))
    context.metrics.on_response(request_record, endpoint, seconds)
    if context.settings.log.access:
        log_request(request_record, method, endpoint, seconds)
    operation = facts_of(scope.get("route_handler")).operation
    if context.tracer is not None and operation:
        context.tracer.record(
            FinishedRequest(request_record, method, endpoint, operation, scope["headers"], seconds)
        )


def _endpoint(scope: Scope) -> str:
    """The route's path. All unknown paths count as one endpoint, which bounds the number of
    labels."""
    return str(scope.get("path_template") or "unknown")
