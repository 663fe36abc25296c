"""The store that the settings ask for."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from gateway.settings.schema import StoreSettings
from gateway.store.store import Store
from gateway.store.upkeep.maintained import Maintained
from gateway.store.upkeep.sweep import Limits, Sweep
from runtime.errors import MissingExtra, SetupError
from runtime.user_cache import data_folder

FILE = "store.db"


def store_of(settings: StoreSettings) -> Store | None:
    """A store that is to be opened; None if it is turned off. Raises MissingExtra."""
    if not settings.enabled:
        return None
    return Store(connect_of(settings), sweep=Sweep(Limits.of(settings)))


def connect_of(settings: StoreSettings) -> Callable[[], Maintained]:
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


def open_existing(settings: StoreSettings, *, upgrade: bool = True) -> Maintained:
    """The database that a server with these settings uses, whether it runs or not. Raises
    SetupError if there is none, or if it cannot be used."""
    if settings.url:
        return connect_of(settings)()
    from gateway.store.sqlite import open_sqlite

    path = path_of(settings)
    if not path.is_file():
        raise SetupError(
            f"there is no store {path}: nothing was stored yet, or store.path is another file"
        )
    return open_sqlite(path, upgrade=upgrade)


def path_of(settings: StoreSettings) -> Path:
    """The file of the database."""
    return Path(settings.path).expanduser() if settings.path else data_folder() / FILE
