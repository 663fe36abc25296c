"""The store that the settings ask for."""

from functools import partial
from pathlib import Path

from gateway.settings.schema import StoreSettings
from gateway.store.store import Store
from gateway.store.upkeep.sweep import Limits, Sweep
from runtime.user_cache import data_folder

FILE = "store.db"


def store_of(settings: StoreSettings) -> Store | None:
    """A store that is to be opened; None if it is turned off."""
    if not settings.enabled:
        return None
    from gateway.store.sqlite import open_sqlite  # SQLite takes 30 ms to import

    return Store(partial(open_sqlite, path_of(settings)), sweep=Sweep(Limits.of(settings)))


def path_of(settings: StoreSettings) -> Path:
    """The file of the database."""
    return Path(settings.path).expanduser() if settings.path else data_folder() / FILE
