"""Requests that the server makes to itself for the owner of something stored."""

from typing import Any

_KEY = "lockgate.acts_for"


def act_for(scope: Any, owner: str) -> None:
    """Makes the request of this ASGI scope one of this owner: it shows no key, and is charged as a
    part of the request that it was made for."""
    scope[_KEY] = owner


def acts_for(scope: Any) -> str | None:
    """The owner that the server acts for; None for a client's own request."""
    owner: str | None = scope.get(_KEY)
    return owner
