"""`store.keep_days` and `store.max_gb` of a running server."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.store.record import Record
from gateway.store.store import Store
from tests.kit.reloading import Reloadable, reloadable_server
from tests.kit.serving import wait_for

DAY = 86_400.0
SETTINGS = {"server.watch_files": False, "store.keep_days": 0, "store.max_gb": 0}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Reloadable]:
    settings = {**SETTINGS, "store.path": str(tmp_path / "store.db")}
    with reloadable_server(tmp_path, settings) as running:
        yield running


def fill(server: Reloadable) -> None:
    """Responses of several ages in days, in the order in which they are deleted."""
    store: Store = server.context.store
    for days in (40, 30, 20, 10):
        born = time.time() - days * DAY
        body = b'{"id":"resp_%d"}' % days + b" " * 500_000
        ids = {"id": f"resp_{days}", "owner": "env:admin"}
        assert store.put_later([Record(kind="response", created_at=born, body=body, **ids)])


def left(server: Reloadable) -> list[int]:
    urls = {days: f"/v1/responses/resp_{days}" for days in (40, 30, 20, 10)}
    return [days for days, url in urls.items() if server.http.get(url).status_code == 200]


def test_what_limits_do_not_allow_goes_when_they_change(server: Reloadable) -> None:
    fill(server)
    assert left(server) == [40, 30, 20, 10]
    server.write(store__keep_days=35)
    assert server.reload().json()["applied"] == ["store.keep_days"]
    wait_for(lambda: left(server) == [30, 20, 10])
    server.write(store__keep_days=35, store__max_gb=0.0012)
    assert server.reload().json()["applied"] == ["store.max_gb"]
    wait_for(lambda: left(server) == [20, 10])
    assert server.metric('store_swept_total{reason="age"}') == 1
    assert server.metric('store_swept_total{reason="size"}') == 1
