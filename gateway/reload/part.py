"""A part of the server that changed settings concern."""

from collections.abc import Callable
from typing import TypeAlias

from msgspec import Struct

from gateway.settings.schema import Settings


def _nothing() -> None:
    """The effect of a part that only checks."""


class Change(Struct, frozen=True):
    """What is read and checked. `apply` puts it into effect at once and cannot fail. `names` are
    what has changed beside the settings themselves."""

    apply: Callable[[], object] = _nothing
    names: tuple[str, ...] = ()


Part: TypeAlias = Callable[[Settings], Change]
"""Prepares a part for settings that are to hold. Called in a thread; raises SetupError, and changes
nothing itself."""
