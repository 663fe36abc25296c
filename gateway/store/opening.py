"""The store that the settings ask for."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from gateway.settings.schema import StoreSettings
from gateway.store.database import Database
from gateway.store.store import Store
from gateway.store.upkeep.sweep import Limits, Sweep
from runtime.errors import MissingExtra
from runtime.user_cache import data_folder

FILE = "store.db"


def store_of(settings: StoreSettings) -> Store | None:
    """A store that is to be opened; None if it is turned off. Raises MissingExtra."""
    if not settings.enabled:
        return None
    return Store(connect_of(settings), sweep=Sweep(Limits.of(settings)))


def connect_of(settings: StoreSettings) -> Callable[[], Database]:
    """Opens a connection to the database, which raises SetupError if it cannot be used. Raises
    MissingExtra without the package that a server needs."""
    if settings.url:
        try:
            from gateway.store.postgres.database import open_postgres
        except ImportError as error:
            raise MissingExtra("psycopg", "postgres") from error
        return partial(open_postgres, settings.url)
    from gateway.store.sqlite import open_sqlite  # SQLite takes 30 ms to import

    return partial(open_sqlite, path_of(settings))


def path_of(settings: StoreSettings) -> Path:
    """The file of the database."""
    return Path(settings.path).expanduser() if settings.path else data_folder() / FILE
