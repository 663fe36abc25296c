"""Databases of each kind, new and empty."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.store.sqlite import open_sqlite
from gateway.store.upkeep.maintained import Maintained
from tests.kit.postgres_server import PostgresServer, postgres_server, programs

Connect = Callable[[], Maintained]


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server, which runs when a test begins."""
    found = programs()
    if found is None:
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    pytest.importorskip("psycopg", reason="no psycopg: pip install 'lockgate[postgres]'")
    with postgres_server(found) as server:
        yield server


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    """A new database, as far as its users see."""
    return postgres.url(postgres.new_schema())


@pytest.fixture(params=["sqlite", "postgres"])
def connect(request: pytest.FixtureRequest, tmp_path: Path) -> Connect:
    """Opens another connection to the same database."""
    if request.param == "sqlite":
        return lambda: open_sqlite(tmp_path / "store.db")
    url: Any = request.getfixturevalue("url")
    from gateway.store.postgres.database import open_postgres

    return lambda: open_postgres(url)
