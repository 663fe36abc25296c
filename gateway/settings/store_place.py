"""Where the store is, if the settings say so."""

from gateway.settings.schema import StoreSettings
from runtime.errors import SetupError

_SCHEMES = ("postgresql://", "postgres://")


def check_store_place(store: StoreSettings) -> None:
    """Raises SetupError for two places, and for a URL of something else, which it does not show:
    there may be a password in it."""
    if store.path.startswith(_SCHEMES):
        raise SetupError("store.path is a file; the URL of a database goes into store.url")
    if store.path and store.url:
        raise SetupError(
            "store.path and store.url are both set: leave store.url empty for a file, or store.path"
            " for a PostgreSQL database"
        )
    if store.url and not store.url.startswith(_SCHEMES):
        raise SetupError(
            "store.url begins with none of"
            f" {', '.join(_SCHEMES)}: write postgresql://USER@HOST:PORT/DATABASE, or use store.path"
            " for a file"
        )
