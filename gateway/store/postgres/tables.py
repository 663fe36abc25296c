"""The tables in their present form."""

from gateway.store.migrations import migrations
from gateway.store.postgres.connection import LOCK, Connection
from runtime.errors import SetupError

MIGRATIONS = "postgres_migrations"
OLDEST_SERVER = 130_000
"""In the form of `server_version_num`."""

_HAS_VERSION = """
SELECT 1 FROM pg_catalog.pg_class
WHERE relname = 'lockgate_version' AND pg_catalog.pg_table_is_visible(oid)
"""
"""What another transaction has made since this one began is seen in this table alone."""


def prepare(connection: Connection) -> None:
    """Brings the tables into their present form. Several gateways may do so at the same time: one
    of them does it. Raises SetupError for a database that a newer Lockgate has written or that
    cannot hold what is stored."""
    _check_server(connection)
    steps = migrations(MIGRATIONS)
    if form_of(connection) == len(steps):
        return
    silence, connection.silence = connection.silence, None
    with connection.transaction():
        connection.execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
        connection.execute(LOCK)
        version = form_of(connection)
        _check_version(version, len(steps))
        for step in steps[version:]:
            connection.execute(step.script.encode())
        connection.execute("DELETE FROM lockgate_version")
        connection.execute("INSERT INTO lockgate_version VALUES (%s)", [len(steps)])
    connection.silence = silence


def _check_server(connection: Connection) -> None:
    if connection.info.server_version < OLDEST_SERVER:
        raise SetupError("store.url: PostgreSQL 13 or newer is needed")
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise SetupError(
            f"store.url: the database has the encoding {encoding}; make one with"
            " CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
        )


def _check_version(version: int, newest: int) -> None:
    if version > newest:
        raise SetupError(
            "store.url: the database was written by a newer version of Lockgate (its form is"
            f" {version}, this version knows {newest}). Use that version, or another database"
        )


def form_of(connection: Connection) -> int:
    """The version of the tables; 0 without any."""
    if connection.execute(_HAS_VERSION).fetchone() is None:
        return 0
    row = connection.execute("SELECT version FROM lockgate_version").fetchone()
    return 0 if row is None else int(row[0])
