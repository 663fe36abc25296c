"""Who is let in: the guard in front of every route.

A route needs a key unless it says `opt={"public": True}`, so that one that somebody adds later is
closed until somebody opens it. Everything that is posted is work, but for what an admin posts: it
needs a place of its key's limits, and is refused while the server drains.
"""

import ipaddress
from collections.abc import Callable, Sequence
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from gateway.admission.drain import Drain
from gateway.admission.keys import ADMIN_KEY_VARIABLE, KeyRing, Principal, presented_key
from gateway.admission.quotas import UNLIMITED_ANSWER_TOKENS, Permit, Quotas
from gateway.admission.web_origin import host_name, is_own_host, is_own_page
from gateway.errors import InvalidKey, PermissionDenied, ServerDraining
from gateway.generation.assembler import Assembler
from gateway.observability.request_record import Exchange
from gateway.settings.loader import Settings
from runtime.errors import InvalidRequest

PUBLIC = "public"
"""Route option: no key is needed."""

ADMIN = "admin"
"""Route option: an admin's key is needed, also where nothing else needs one."""

MONITORING = "monitoring"
"""Route option: `auth.monitoring` decides."""

_PRINCIPAL = "lockgate.principal"
_PERMIT = "lockgate.permit"

REFUSED_STATUSES = (429, 503)
"""The server had no room: the request is not charged."""

Headers = Sequence[tuple[bytes, bytes]]


class Admission:
    """Keys, quotas and the drain of one server. Single-threaded."""

    def __init__(self, settings: Settings, keys: KeyRing, drain: Drain, quotas: Quotas) -> None:
        self.drain = drain
        self._keys = keys
        self._quotas = quotas
        self._monitoring = settings.auth.monitoring
        self._allowed_hosts = settings.server.allowed_hosts
        self._allowed_origins = settings.server.cors_allow_origins

    def identify(self, headers: Headers) -> Principal | None:
        """Whose key it is; None where no key is needed. Raises InvalidKey, or PermissionDenied for
        a web page that has no business here."""
        if not self._keys.is_required:
            self._check_page(headers)
            return None
        key = presented_key(headers)
        if key is None:
            raise InvalidKey(
                "No API key was sent. Send one in the header `Authorization: Bearer KEY`."
            )
        principal = self._keys.find(key)
        if principal is None:
            raise InvalidKey("The API key is not valid. Ask whoever runs this server for one.")
        return principal

    def check_admin(self, principal: Principal | None) -> None:
        """Raises PermissionDenied."""
        if principal is None or not principal.is_admin:
            raise PermissionDenied(
                f'This takes an admin\'s key: one of the file auth.keys_file with role = "admin",'
                f" or the one in {ADMIN_KEY_VARIABLE}."
            )

    def may_monitor(self, headers: Headers, client: str) -> None:
        """Raises InvalidKey or PermissionDenied. `client` is the peer's address."""
        is_open = self._monitoring == "open"
        if is_open or (self._monitoring == "loopback" and is_loopback(client)):
            return
        principal = self.identify(headers)
        if principal is not None and self._monitoring != "key":
            self.check_admin(principal)

    def enter(self, principal: Principal | None, exchange: Exchange) -> Permit | None:
        """Lets a request in, until its exchange is over. Raises ServerDraining, RateLimited."""
        drain = self.drain
        if drain.is_draining:
            raise ServerDraining(retry_after=drain.retry_after)
        permit = None
        if principal is not None:
            quota = self._quotas.of(principal)
            exchange.limit_headers = quota.headers
            permit = quota.enter()
        drain.num_running += 1
        exchange.on_end = _ending(drain, permit)
        return permit

    def _check_page(self, headers: Headers) -> None:
        host = origin = ""
        for name, value in headers:
            if name == b"host":
                host = value.decode("latin-1")
            elif name == b"origin":
                origin = value.decode("latin-1")
        if not is_own_host(host, self._allowed_hosts):
            raise PermissionDenied(
                f"The host name `{host_name(host)[:255]}` is not one of this server's. Add it to"
                " server.allowed_hosts, or set up API keys.",
                code="host_not_allowed",
            )
        if origin and not is_own_page(origin, host, self._allowed_origins):
            raise page_not_allowed()


def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Litestar's guard for the whole application."""
    options = handler.opt
    if options.get(PUBLIC):
        return
    scope: Any = connection.scope
    headers = scope["headers"]
    admission: Admission = connection.app.state.admission
    if options.get(MONITORING):
        admission.may_monitor(headers, (scope.get("client") or ("",))[0])
        return
    principal = scope[_PRINCIPAL] = admission.identify(headers)
    _check_client_request_id(Exchange.of(scope))
    if options.get(ADMIN):
        admission.check_admin(principal)
    elif scope["method"] == "POST":
        scope[_PERMIT] = admission.enter(principal, Exchange.of(scope))


def principal_of(scope: Any) -> Principal | None:
    """Whose request this is; None without keys."""
    principal: Principal | None = scope.get(_PRINCIPAL)
    return principal


def reserve_tokens(scope: Any, assembler: Assembler, max_tokens: Sequence[int | None]) -> None:
    """Charges a request to its key's tokens per minute, before the engine is asked. In the end
    the charge is what `assembler` has counted.

    `max_tokens` are those that the client asked for, one for each answer, None where it set none.
    Raises RateLimited.
    """
    if scope.get(_PERMIT) is not None:
        answers = sum(UNLIMITED_ANSWER_TOKENS if n is None else n for n in max_tokens)
        prompts = assembler.usage_so_far().prompt_tokens
        reserve_prompt_tokens(
            scope, prompts + answers, lambda: assembler.usage_so_far().total_tokens
        )


def reserve_prompt_tokens(scope: Any, num_tokens: int, used: Callable[[], int]) -> None:
    """Charges so many tokens to the request's key; `used` says in the end how many it were. Raises
    RateLimited."""
    permit: Permit | None = scope.get(_PERMIT)
    if permit is not None:
        permit.reserve_tokens(num_tokens, used)


def page_not_allowed() -> PermissionDenied:
    """For a web page of another origin."""
    return PermissionDenied(
        "Web pages of other origins may not use this server. Add the page's origin to"
        " server.cors_allow_origins.",
        code="origin_not_allowed",
    )


def is_loopback(address: str) -> bool:
    """Whether only this machine can have that address."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _check_client_request_id(exchange: Exchange) -> None:
    if exchange.client_request_id is None:
        raise InvalidRequest(
            "The header `X-Client-Request-Id` has to be ASCII, at most 512 characters.",
            param=None,
        )


def _ending(drain: Drain, permit: Permit | None) -> Callable[[int], None]:
    def end(status: int) -> None:
        drain.num_running -= 1
        if permit is not None:
            permit.close(was_refused=status in REFUSED_STATUSES)

    return end
