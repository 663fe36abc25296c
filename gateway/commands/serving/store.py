"""The memory of a server, which has to be usable before it starts."""

from gateway.errors import StoreUnavailable
from gateway.settings.schema import StoreSettings
from gateway.store.database import Database
from gateway.store.opening import connect_of, path_of
from gateway.store.record import Query
from gateway.store.upkeep.kinds import OBJECTS
from gateway.store.usage import UsageQuery
from runtime.errors import SetupError

EVER = 10**12
"""Later than any hour, in seconds since 1970."""


def check_store(settings: StoreSettings) -> None:
    """Makes the database if there is none, and looks into it. Raises SetupError if it cannot be
    used, is damaged where every server reads, or was written by a newer version of Lockgate."""
    if not settings.enabled:
        return
    database = connect_of(settings)()
    try:
        _look_into(database)
    except StoreUnavailable as error:
        place = "store.url" if settings.url else f"store.path: {path_of(settings)}"
        raise SetupError(
            f"{place} cannot be read: {error} Put a backup in its place, or move it away to begin"
            " with nothing"
        ) from error
    finally:
        database.close()


def _look_into(database: Database) -> None:
    """Reads what a server reads when it starts, and a record of each kind."""
    database.find_usage(UsageQuery(0, EVER, seconds=EVER))
    for objects in OBJECTS:
        for kind in objects.all_kinds:
            database.find(Query(kind=kind, owner=None, limit=1))
