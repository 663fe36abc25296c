"""The middleware around every route: who is let in, and what is given back at the end."""

from collections.abc import Callable
from typing import Any, cast

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from gateway.admission.admission import Admission
from gateway.admission.inner import acts_for
from gateway.admission.keys import Principal
from gateway.admission.quotas import UNLIMITED_ANSWER_TOKENS, Permit
from gateway.generation.run import AnswerRun
from gateway.observability.request_record import RequestRecord
from runtime.errors import InvalidRequest

PUBLIC = "public"
"""Route option: no key is needed."""

ADMIN = "admin"
"""Route option: an admin's key is needed, even if no other route needs a key."""

NO_WORK = "no_work"
"""Route option: a POST that costs the key nothing, and is let in while the server drains."""

MONITORING = "monitoring"
"""Route option: `auth.monitoring` decides."""

_PRINCIPAL = "lockgate.principal"
_PERMIT = "lockgate.permit"


class AdmissionMiddleware(ASGIMiddleware):
    """Identifies the client of every route, admits its request, and gives back what the request
    holds when the request is over. Raises the errors of `Admission`."""

    scopes = (ScopeType.HTTP,)

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        if self._is_counted(scope):
            entered = self._admission.entered(
                principal_of(scope), RequestRecord.of(scope), is_new=acts_for(scope) is None
            )
            with entered as permit:
                cast(Any, scope)[_PERMIT] = permit
                await next_app(scope, receive, send)
        else:
            await next_app(scope, receive, send)

    def _is_counted(self, scope: Any) -> bool:
        """Identifies the client and checks its rights. Returns whether the request counts for
        quotas and for the drain."""
        options, headers = scope["route_handler"].opt, scope["headers"]
        if options.get(PUBLIC):
            return False
        if options.get(MONITORING):
            self._admission.may_monitor(headers, (scope.get("client") or ("",))[0])
            return False
        owner = acts_for(scope)
        principal = scope[_PRINCIPAL] = (
            self._admission.identify(headers) if owner is None else self._admission.named(owner)
        )
        _check_client_request_id(RequestRecord.of(scope))
        if options.get(ADMIN):
            self._admission.check_admin(principal)
            return False
        return bool(scope["method"] == "POST" and not options.get(NO_WORK))


def principal_of(scope: Any) -> Principal | None:
    """The principal of this request; None without keys."""
    principal: Principal | None = scope.get(_PRINCIPAL)
    return principal


def reserve_tokens(scope: Any, run: AnswerRun) -> None:
    """Charges a request to its key's tokens per minute before the engine gets it. When the request
    ends, the charge becomes the tokens that the answer has used. Raises RateLimited."""
    if scope.get(_PERMIT) is not None:
        limits = run.token_limits
        answers = sum(UNLIMITED_ANSWER_TOKENS if limit is None else limit for limit in limits)
        prompts = run.usage_so_far().prompt_tokens
        reserve_prompt_tokens(scope, prompts + answers, lambda: run.usage_so_far().total_tokens)


def reserve_prompt_tokens(scope: Any, num_tokens: int, used: Callable[[], int]) -> None:
    """Charges `num_tokens` to the request's key. When the request ends, `used` returns the tokens
    really used. Raises RateLimited."""
    permit: Permit | None = scope.get(_PERMIT)
    if permit is not None:
        permit.reserve_tokens(num_tokens, used)


def _check_client_request_id(request_record: RequestRecord) -> None:
    if request_record.client_request_id is None:
        raise InvalidRequest(
            "The header `X-Client-Request-Id` has to be ASCII, at most 512 characters.",
            param=None,
        )
