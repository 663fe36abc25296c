"""The model that a request holds, kept in its ASGI scope."""

from typing import Any

from gateway.models.manager.lease import Lease
from gateway.models.manager.manager import ModelManager

_KEY = "lockgate.lease"


def hold_model(scope: Any, manager: ModelManager, name: str) -> None:
    """Makes the request hold this model until it is over, instead of one that it held before."""
    release_models(scope)
    scope[_KEY] = manager.hold(name)


def lease_of(scope: Any) -> Lease | None:
    """The request's hold; None if it has named no model yet."""
    lease: Lease | None = scope.get(_KEY)
    return lease


def release_models(scope: Any) -> None:
    """Ends what `hold_model` began, if it did."""
    if (lease := scope.pop(_KEY, None)) is not None:
        lease.release()
