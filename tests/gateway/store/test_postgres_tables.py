"""The tables in PostgreSQL, from one form to the next."""

from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("psycopg", reason="no psycopg: pip install 'lockgate[postgres]'")

from gateway.store.migrations import Migration, migrations
from gateway.store.postgres import tables
from gateway.store.postgres.database import open_postgres
from gateway.store.record import Record
from gateway.store.upkeep.maintained import Which
from runtime.errors import SetupError
from tests.kit.postgres_server import PostgresServer

RECORD = Record(kind="thing", id="x", owner="ann", created_at=1.0, body=b"{}")
STEPS = migrations(tables.MIGRATIONS)
NEXT = Migration(
    len(STEPS) + 1,
    "ALTER TABLE lockgate_records ADD COLUMN more text NOT NULL DEFAULT 'x';"
    "CREATE INDEX lockgate_more ON lockgate_records (more);",
)
WRONG = Migration(NEXT.version + 1, "DELETE FROM lockgate_records; SELECT 1 / 0;")


@pytest.fixture
def filled(url: str) -> str:
    """A database of the present form with a record."""
    database = open_postgres(url)
    with database.transaction():
        database.put(RECORD)
    database.close()
    return url


def form(url: str) -> int:
    database = open_postgres(url)
    try:
        assert [*database.records(Which())] == [RECORD]
        return database.about().form
    finally:
        database.close()


def test_numbers_have_no_gap() -> None:
    assert [step.version for step in STEPS] == [*range(1, len(STEPS) + 1)]


def test_several_upgrade_it_at_once(filled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "migrations", lambda _: [*STEPS, NEXT])
    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(form, [filled] * 4)] == [NEXT.version] * 4


def test_an_upgrade_that_fails_changes_nothing(
    filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(tables, "migrations", lambda _: [*STEPS, NEXT, WRONG])
        with pytest.raises(SetupError, match="division by zero"):
            open_postgres(filled)
    assert form(filled) == len(STEPS)


def test_a_database_of_a_newer_version_is_left_alone(
    filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(tables, "migrations", lambda _: [*STEPS, NEXT])
        assert form(filled) == NEXT.version
    with pytest.raises(SetupError, match="newer version of Lockgate"):
        open_postgres(filled)


def test_a_database_whose_encoding_has_not_every_character_is_refused(
    postgres: PostgresServer,
) -> None:
    postgres.execute("CREATE DATABASE old ENCODING 'LATIN1' TEMPLATE template0")
    try:
        with pytest.raises(SetupError, match="LATIN1"):
            open_postgres(postgres.url().replace("/postgres?", "/old?"))
    finally:
        postgres.execute("DROP DATABASE old")


def test_a_schema_that_is_missing_is_told(postgres: PostgresServer, url: str) -> None:
    schema = url.rpartition("%3D")[2]
    postgres.execute(f"DROP SCHEMA {schema}")
    with pytest.raises(SetupError, match="no schema has been selected to create in"):
        open_postgres(url)
