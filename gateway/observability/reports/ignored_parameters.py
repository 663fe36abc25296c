"""Reports the parameters of a request that are taken and have no effect: in a header of its
response, and in the log, once for each endpoint."""

import heapq
import re
from collections.abc import Collection, Mapping
from typing import Any

import structlog

from gateway.observability.request_record import RequestRecord

log = structlog.get_logger(__name__)

MAX_NOTED = 2000
"""Most names that the log tells from those that it has had."""

MAX_UNKNOWN = 20
"""Most unknown names of one request that are reported."""

_INDEX = re.compile(r"\[\d+\]")

_noted: set[tuple[str, str]] = set()


def note_ignored(scope: Any, reasons: Mapping[str, str]) -> None:
    """Reports parameters that this server knows, each with the reason why it has no effect. `scope`
    is the request's."""
    RequestRecord.of(scope).ignored += reasons
    for name, reason in reasons.items():
        param = _INDEX.sub("[]", name[:100])
        if _is_new(scope, f"{param}: {reason}"):
            log.info("parameter_ignored", param=param, endpoint=_endpoint(scope), reason=reason)


def note_unknown(scope: Any, names: Collection[str]) -> None:
    """Reports fields that this server does not know."""
    shown = heapq.nsmallest(MAX_UNKNOWN, names)
    RequestRecord.of(scope).ignored += shown
    for name in shown:
        field = _INDEX.sub("[]", name[:100])
        if _is_new(scope, field):
            log.info("unknown_field_ignored", field=field, endpoint=_endpoint(scope))


def _is_new(scope: Any, what: str) -> bool:
    place = (_endpoint(scope), what)
    if place in _noted or len(_noted) >= MAX_NOTED:
        return False
    _noted.add(place)
    return True


def _endpoint(scope: Any) -> str:
    return str(scope.get("path_template") or scope["path"])
