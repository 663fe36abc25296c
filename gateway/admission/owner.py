"""Whose objects a request makes, and whose it may see."""

from typing import Any

from gateway.admission.middleware import principal_of

LOCAL = "local"
"""The owner of everything on a server without keys."""


def owner_of(scope: Any) -> str:
    """The owner of what this request stores: the name of its key."""
    principal = principal_of(scope)
    return LOCAL if principal is None else principal.name


def reader_of(scope: Any) -> str | None:
    """The owner whose objects this request may see; None for an admin, who sees all."""
    principal = principal_of(scope)
    return None if principal is not None and principal.is_admin else owner_of(scope)
