"""Admission of requests: the guard in front of every route.

A route needs a key unless it declares `opt={"public": True}`, so that a new route is closed by
default. Every POST counts as work, except an admin's: it takes a place within its key's limits, and
is refused while the server drains.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial

from gateway.admission.drain import Drain
from gateway.admission.keys import ADMIN_KEY_VARIABLE, KeyRing, Principal, presented_key
from gateway.admission.loopback import is_loopback
from gateway.admission.quotas import Permit, Quota, Quotas
from gateway.admission.web_origin import host_name, is_own_host, is_own_page
from gateway.errors import InvalidKey, PermissionDenied, ServerDraining
from gateway.observability.request_record import RequestRecord
from gateway.settings.live import LiveSettings

REFUSED_STATUSES = (429, 503)
"""Statuses of requests that the server had no room for: they are not charged."""

Headers = Sequence[tuple[bytes, bytes]]


class Admission:
    """Keys, quotas and the drain of one server. Single-threaded."""

    def __init__(self, settings: LiveSettings, keys: KeyRing, drain: Drain, quotas: Quotas) -> None:
        self.drain = drain
        self._keys = keys
        self._quotas = quotas
        self._settings = settings

    def identify(self, headers: Headers) -> Principal | None:
        """The principal of the request's key; None if no key is needed. Raises InvalidKey, or
        PermissionDenied for a web page of a foreign origin."""
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
        if principal.has_expired(datetime.now(UTC)):
            raise InvalidKey("The API key has expired. Ask whoever runs this server for another.")
        return principal

    def named(self, owner: str) -> Principal | None:
        """The principal for which the server acts by itself; None if no key is needed. Raises
        InvalidKey if that key is not there any more, or has expired."""
        if not self._keys.is_required:
            return None
        principal = self._keys.named(owner)
        if principal is None or principal.has_expired(datetime.now(UTC)):
            raise InvalidKey("The API key that asked for this is not valid any more.")
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
        monitoring = self._settings.current.auth.monitoring
        if monitoring == "open" or (monitoring == "loopback" and is_loopback(client)):
            return
        principal = self.identify(headers)
        if principal is not None and monitoring != "key":
            self.check_admin(principal)

    @contextmanager
    def entered(
        self, principal: Principal | None, request_record: RequestRecord, *, is_new: bool = True
    ) -> Iterator[Permit | None]:
        """Admits a request for the length of the block; the permit is None without keys. One that
        is not new is a part of one that was charged already. Raises ServerDraining,
        RateLimited."""
        drain = self.drain
        if drain.is_draining:
            raise ServerDraining(retry_after=drain.retry_after)
        permit = None
        if principal is not None:
            quota = self._quotas.of(principal)
            request_record.limit_headers = quota.headers
            permit = quota.enter(is_new=is_new)
            request_record.limit_headers = partial(_limits_left, quota, permit, request_record)
        with drain.running():
            try:
                yield permit
            finally:
                if permit is not None:
                    permit.close()

    def _check_page(self, headers: Headers) -> None:
        host = origin = ""
        for name, value in headers:
            if name == b"host":
                host = value.decode("latin-1")
            elif name == b"origin":
                origin = value.decode("latin-1")
        server = self._settings.current.server
        if not is_own_host(host, server.allowed_hosts):
            raise PermissionDenied(
                f"The host name `{host_name(host)[:255]}` is not one of this server's. Add it to"
                " server.allowed_hosts, or set up API keys.",
                code="host_not_allowed",
            )
        if origin and not is_own_page(origin, host, server.cors_allow_origins):
            raise page_not_allowed()


def _limits_left(
    quota: Quota, permit: Permit, request_record: RequestRecord
) -> list[tuple[bytes, bytes]]:
    """The headers of a response whose status is known; one that refuses costs nothing."""
    if request_record.status in REFUSED_STATUSES:
        permit.refund()
    return quota.headers()


def page_not_allowed() -> PermissionDenied:
    """The error for a web page of another origin."""
    return PermissionDenied(
        "Web pages of other origins may not use this server. Add the page's origin to"
        " server.cors_allow_origins.",
        code="origin_not_allowed",
    )
