"""A disk without room: what would be stored is refused, all else goes on."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.settings.schema import StoreSettings
from gateway.store import sqlite
from tests.kit.chat.answers import good
from tests.kit.openai.responses import URL, ask
from tests.kit.openai.schemas import check_error
from tests.kit.serving import RunningServer, running_server, scripted_settings, wait_for

LARGE = {"type": "message", "role": "user", "content": "x" * 100_000}


class Disk:
    """What the databases of a server lie on."""

    def __init__(self) -> None:
        self.connections: list[sqlite3.Connection] = []

    def use(self, *, is_full: bool) -> None:
        """A database that has fewer pages already gets no more of them."""
        for connection in self.connections:
            connection.execute(f"PRAGMA max_page_count = {1 if is_full else 10**6}")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk, connect = Disk(), sqlite._connect

    def noted(path: Path) -> sqlite3.Connection:
        disk.connections.append(connect(path))
        return disk.connections[-1]

    monkeypatch.setattr(sqlite, "_connect", noted)
    return disk


@pytest.fixture
def server(disk: Disk, tmp_path: Path) -> Iterator[RunningServer]:
    store = StoreSettings(path=str(tmp_path / "store.db"))
    with running_server(scripted_settings(store=store, num_tokens=10)) as server:
        yield server


def refused(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 507
    check_error(response.json())
    error: dict[str, Any] = response.json()["error"]
    assert (error["type"], error["code"]) == ("server_error", "store_full")
    return error


def conversation(server: RunningServer) -> httpx.Response:
    return server.http.post("/v1/conversations", json={"items": [LARGE]})


def test_a_full_disk_refuses_what_is_to_be_stored_until_there_is_room_again(
    server: RunningServer, disk: Disk
) -> None:
    first = ask(server)
    kept = good(conversation(server))["id"]
    disk.use(is_full=True)
    refused(conversation(server))

    short = {"input": "hi", "max_output_tokens": 2}
    for wanted in ({"store": True}, {"previous_response_id": first["id"]}, {"conversation": kept}):
        assert "`store: false`" in refused(server.post(URL, **short, **wanted))["message"]
    refused(server.post(URL, input=[LARGE], background=True))
    assert server.metric("num_requests_in_flight") == 0

    assert good(server.http.get(f"{URL}/{first['id']}")) == first
    assert good(server.http.get(f"/v1/conversations/{kept}"))["id"] == kept
    follows = good(server.post(URL, **short, previous_response_id=first["id"], store=False))
    assert follows["usage"]["input_tokens"] > first["usage"]["input_tokens"]
    assert good(server.post(URL, **short))["store"] is False
    assert server.metric('http_requests_total{status="507"}') > 0

    disk.use(is_full=False)
    wait_for(lambda: good(server.post(URL, **short))["store"] is True)
    last = good(server.post(URL, **short, previous_response_id=first["id"]))
    assert good(server.http.get(f"{URL}/{last['id']}")) == last
    assert conversation(server).status_code == 200
