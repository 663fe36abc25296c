"""The memory of a server, which has to be usable before it starts."""

from gateway.settings.schema import StoreSettings
from gateway.store.opening import store_of


def check_store(settings: StoreSettings) -> None:
    """Makes the database if there is none. Raises SetupError if it cannot be used, or if a newer
    version of Lockgate has written it."""
    store = store_of(settings)
    if store is not None:
        store.open()
        store.close()
