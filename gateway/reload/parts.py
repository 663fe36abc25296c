"""The parts of every server that changed settings concern. All others read the current settings."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from gateway.admission.drain import Drain
from gateway.admission.keys import KeyRing, keys_path, read_keys_file
from gateway.bounds.bounds import Bounds
from gateway.models.registry import ModelRegistry
from gateway.observability.log import configure_logging
from gateway.observability.metrics.server import Metrics
from gateway.reload.part import Change, Part
from gateway.settings.live import LiveSettings
from gateway.settings.schema import Settings

T = TypeVar("T")


def keys_part(ring: KeyRing) -> Part:
    """The keys file. Its names of keys that are new, gone or different are `keys.NAME`."""

    def prepare(settings: Settings) -> Change:
        file = keys_path(settings.auth)
        if file is None:
            return Change()
        old, new = ring.entries, read_keys_file(file)
        names = (name for name in {**old, **new} if old.get(name) != new.get(name))
        return Change(partial(ring.replace, new), tuple(f"keys.{name}" for name in names))

    return prepare


def aliases_part(models: ModelRegistry) -> Part:
    """`model.aliases`, which may name models of this server only."""

    def prepare(settings: Settings) -> Change:
        models.check_aliases(settings.aliases)
        return Change(partial(models.set_aliases, settings.aliases))

    return prepare


def told(live: LiveSettings, read: Callable[[Settings], T], tell: Callable[[T], Any]) -> Part:
    """A part that keeps what `read` returns of the settings, and is told when that changes."""

    def prepare(settings: Settings) -> Change:
        value = read(settings)
        return Change(partial(tell, value)) if value != read(live.current) else Change()

    return prepare


def server_parts(
    live: LiveSettings,
    *,
    drain: Drain,
    bounds: Bounds,
    metrics: Metrics,
    models: ModelRegistry,
) -> list[Part]:
    """What keeps something of the settings in every server."""
    return [
        aliases_part(models),
        told(live, lambda s: s.server.drain_timeout, partial(setattr, drain, "timeout")),
        told(live, lambda s: s.server, bounds.use),
        told(live, lambda s: s.metrics.max_keys, metrics.set_max_keys),
        told(live, lambda s: s.log, configure_logging),
    ]
