"""Where a database is, in a form that shows no password."""

from typing import Any

import psycopg
from msgspec import Struct
from psycopg.conninfo import conninfo_to_dict

from runtime.errors import SetupError

CONNECT_SECONDS = 5
"""How long each server of the URL has to accept a connection, unless the URL says otherwise."""

_DEFAULTS = {
    "fallback_application_name": "lockgate",
    "target_session_attrs": "primary",
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
"""Parameters of libpq that the URL may change."""

_SECRETS = ("password", "sslpassword")
_MAX_REASON = 400


class Address(Struct, frozen=True):
    """`parameters` are those of a connection, as libpq names them."""

    parameters: dict[str, Any]

    def __str__(self) -> str:
        hosts = str(self.parameters.get("host") or self.parameters.get("hostaddr") or "")
        ports = str(self.parameters.get("port") or "")
        name = str(self.parameters.get("dbname") or "")
        return f"postgresql://{hosts}{':' if ports else ''}{ports}/{name}"

    def without_secrets(self, text: object) -> str:
        """The text in one line of bounded length, without a full stop, with no password in it."""
        line = " ".join(str(text).split()).rstrip(".")
        for name in _SECRETS:
            if secret := self.parameters.get(name):
                line = line.replace(str(secret), "***")
        return line[:_MAX_REASON]


def address_of(url: str) -> Address:
    """Raises SetupError for what is no URL of PostgreSQL. Its message shows no part of the URL,
    because a password that is not written as URLs want it may stand anywhere."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error:
        raise _no_url() from None
    ports = str(given.get("port") or "").replace(",", "")
    places = f"{given.get('host') or ''}{given.get('dbname') or ''}"
    if "@" in places or (ports and not ports.isdecimal()):
        raise _no_url()
    return Address({**_DEFAULTS, **given, "client_encoding": "utf8"})


def _no_url() -> SetupError:
    return SetupError(
        "store.url: this is no URL of a PostgreSQL database. Write it as"
        " postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with special characters of the password"
        " in percent form (%40 for @), or leave the password to PGPASSWORD or to ~/.pgpass"
    )
