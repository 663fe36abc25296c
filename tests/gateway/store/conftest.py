"""Databases of each kind, new and empty."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.store.database import Database
from gateway.store.sqlite import open_sqlite

Connect = Callable[[], Database]


@pytest.fixture(params=["sqlite"])
def connect(request: pytest.FixtureRequest, tmp_path: Path) -> Connect:
    """Opens another connection to the same database."""
    return lambda: open_sqlite(tmp_path / "store.db")
