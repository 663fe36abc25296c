"""The Litestar application, with the work that surrounds every request."""

import asyncio
import re
import time
from typing import cast

from litestar import Litestar, Request, Response
from litestar.config.cors import CORSConfig
from litestar.datastructures import Headers
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
from gateway.admission.web_origin import is_own_page
from gateway.bounds.body_memory import give_back
from gateway.errors import HTTPVersionNotSupported, ServerDraining, wrong_host, wrong_target
from gateway.http.context import AnyRequest, Context
from gateway.http.error_handler import handle_error
from gateway.http.loading.leases import release_models
from gateway.http.other_paths import OtherPaths
from gateway.http.route_facts import facts_of
from gateway.observability.access_log import log_request
from gateway.observability.finished_request import FinishedRequest
from gateway.observability.request_record import DROPPED_HEADER, IGNORED_HEADER, RequestRecord
from runtime.client.service_rate import DEFAULT_RETRY_AFTER
from runtime.errors import LockgateError

LIMIT_FACTS = ("limit", "remaining", "reset")

EXPOSED_HEADERS = (
    *("x-request-id", "openai-processing-ms", "retry-after", "retry-after-ms", "x-should-retry"),
    *(IGNORED_HEADER.decode(), "x-loosened-keywords", DROPPED_HEADER.decode()),
    *(f"x-ratelimit-{what}-{kind}" for kind in ("requests", "tokens") for what in LIMIT_FACTS),
)
"""Those that a page of `server.cors_allow_origins` may read."""

_HOST = re.compile(rb"[0-9A-Za-z!$&'()*+,;=\-._~:\[\]@%]*")


class Gateway(Litestar):
    """Litestar with a `RequestRecord` around every request, including requests that match no route.
    The record gives each response its id and times, and is observed when the request is over."""

    def allow_origins(self, origins: list[str]) -> None:
        """Pages of these origins may use the server from the next request on. Keys travel in a
        header, so cookies are not needed."""
        self.cors_config = (
            CORSConfig(allow_origins=origins, expose_headers=list(EXPOSED_HEADERS))
            if origins
            else None
        )
        self.asgi_handler = self._create_asgi_handler()

    async def __call__(
        self,
        scope: Scope | LifeSpanScope,
        receive: Receive | LifeSpanReceive,
        send: Send | LifeSpanSend,
    ) -> None:
        if scope["type"] != ScopeType.HTTP:
            await super().__call__(scope, receive, send)
            return
        context = cast(Context, self.state.context)
        scope = _as_route(_as_get(cast(Scope, scope)), context.other_paths)
        request_record = RequestRecord(scope["headers"])
        request_record.attach(scope)
        server = context.settings.server
        if server.request_timeout:
            request_record.deadline = request_record.started + server.request_timeout
        receive = context.uploads.in_time(
            cast(Receive, receive), request_record.started, server.body_timeout
        )
        served = _tell_methods if _is_for_server(cast(HTTPScope, scope)) else super().__call__
        app = _refused(cast(HTTPScope, scope), self.cors_config) or served
        send = _with_headers(cast(Send, send), request_record, context.drain)
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            if not context.drain.exits:
                raise
            await _last_answer(scope, receive, send)
        finally:
            give_back(scope)
            release_models(scope)
            _observe(request_record, scope, context)


def _refused(scope: HTTPScope, cors: CORSConfig | None) -> ASGIApp | None:
    """The response to a request that no route should see; None for all others."""
    error: LockgateError | None = _mistake_in_head(scope)
    if error is None and scope["method"] == "OPTIONS" and not _may_ask(scope, cors):
        error = page_not_allowed()
    if error is None:
        return None
    request: AnyRequest = Request(scope)
    return handle_error(request, error).to_asgi_response(app=None, request=request)


def _mistake_in_head(scope: HTTPScope) -> LockgateError | None:
    """What is wrong with the request's first line and its `Host`, by RFC 9112."""
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if not scope["http_version"].startswith("1."):
        return HTTPVersionNotSupported()
    is_missing = not hosts and scope["http_version"] != "1.0"
    if is_missing or len(hosts) > 1 or not all(map(_HOST.fullmatch, hosts)):
        return wrong_host(len(hosts))
    if scope["path"].startswith("/") or _is_for_server(scope):
        return None
    return wrong_target()


def _is_for_server(scope: HTTPScope) -> bool:
    return scope["method"] == "OPTIONS" and scope["path"] == "*"


async def _tell_methods(scope: Scope, receive: Receive, send: Send) -> None:
    """What some path of this server takes."""
    headers = {"allow": "DELETE, GET, HEAD, OPTIONS, POST"}
    response: Response[None] = Response(None, status_code=204, headers=headers)
    answer = response.to_asgi_response(app=None, request=Request(scope))
    await answer(scope, receive, send)


def _may_ask(scope: HTTPScope, cors: CORSConfig | None) -> bool:
    """Whether a browser may ask beforehand for this page. That takes no key: a browser sends none.
    Litestar's own refusal is not JSON."""
    headers = Headers.from_scope(scope)
    origin = headers.get("origin")
    if not origin or (cors is not None and cors.is_origin_allowed(origin)):
        return True
    return is_own_page(origin, headers.get("host", ""), ())


def _as_route(scope: Scope, other_paths: OtherPaths) -> Scope:
    """Treats a path without `/v1` as the route's own, for metrics and limits too."""
    alias = other_paths.alias_of(scope["path"])
    return scope if alias is None else cast(Scope, {**scope, "path": alias})


async def _last_answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers a request that the end of the server has cancelled, if nothing of it is answered."""
    if not RequestRecord.of(scope).status:
        request: AnyRequest = Request(scope)
        response = handle_error(request, ServerDraining(retry_after=DEFAULT_RETRY_AFTER))
        await response.to_asgi_response(app=None, request=request)(scope, receive, send)


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
