"""Real servers that share a PostgreSQL database."""

import re
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec import structs

from gateway.settings.schema import Settings, StoreSettings
from tests.kit.command_line import SCRIPTED, greeting, lockgate, start
from tests.kit.postgres_server import PASSWORD, PostgresServer
from tests.kit.serving import (
    MODEL,
    PATIENCE,
    RunningServer,
    running_server,
    scripted_settings,
    wait_for,
)

RESPONSES = "/v1/responses"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers that wait no seconds for a database that is away."""
    from gateway.store.postgres.connection import Limits

    monkeypatch.setattr("gateway.store.postgres.database.Limits", partial(Limits, patience=0))


@pytest.fixture
def settings(url: str) -> Settings:
    return structs.replace(scripted_settings(), store=StoreSettings(url=url))


@pytest.fixture
def servers(settings: Settings) -> Iterator[tuple[RunningServer, RunningServer]]:
    with running_server(settings) as one, running_server(settings) as other:
        yield one, other


def respond(server: RunningServer, **more: Any) -> httpx.Response:
    return server.post(RESPONSES, input="hi", max_output_tokens=16, **more)


@contextmanager
def killed(process: "subprocess.Popen[str]") -> Iterator[None]:
    """At the end, as by the kernel."""
    with process:
        try:
            yield
        finally:
            process.kill()


def is_kept(server: RunningServer, id: str) -> bool:
    return server.http.get(f"{RESPONSES}/{id}").status_code == 200


def test_what_one_answers_the_other_goes_on_from(
    servers: tuple[RunningServer, RunningServer],
) -> None:
    one, other = servers
    first = respond(one).json()
    path = f"{RESPONSES}/{first['id']}"
    wait_for(lambda: other.http.get(path).status_code == 200)
    assert other.http.get(path).json() == one.http.get(path).json()
    second = respond(other, previous_response_id=first["id"])
    assert second.status_code == 200, second.text
    assert second.json()["usage"]["input_tokens"] > first["usage"]["input_tokens"]
    assert other.http.delete(path).status_code == 200
    assert one.http.get(path).status_code == 404


@pytest.mark.usefixtures("impatient")
def test_answers_go_on_without_the_database(
    postgres: PostgresServer, servers: tuple[RunningServer, RunningServer]
) -> None:
    server, _ = servers
    kept = respond(server).json()["id"]
    path = f"{RESPONSES}/{kept}"
    wait_for(lambda: server.http.get(path).status_code == 200)
    postgres.stop()
    try:
        assert respond(server).status_code == 200
        missing = server.http.get(path)
        assert (missing.status_code, missing.json()["error"]["code"]) == (503, "store_unavailable")
        assert str(postgres.port) not in missing.text
    finally:
        postgres.start()
    wait_for(lambda: server.http.get(path).status_code == 200)
    wait_for(lambda: is_kept(server, respond(server).json()["id"]))


def test_a_server_does_not_start_without_its_database(
    postgres: PostgresServer, tmp_path: Path, url: str
) -> None:
    postgres.stop()
    try:
        ended = lockgate(tmp_path, "serve", *SCRIPTED, LOCKGATE__STORE__URL=url)
    finally:
        postgres.start()
    told = ended.stdout + ended.stderr
    assert ended.returncode != 0
    assert f"store.url: postgresql://{postgres.place}/postgres cannot be used" in told
    assert PASSWORD not in told
    assert url not in told


def test_of_a_server_that_is_killed_every_answer_is_whole_or_absent(
    settings: Settings, url: str, tmp_path: Path
) -> None:
    process = start(tmp_path, "serve", *SCRIPTED, LOCKGATE__STORE__URL=url)
    address = re.findall(r"http://\S+:\d+", greeting(process))[0]
    made, enough = list[str](), threading.Event()

    def ask() -> None:
        with suppress(httpx.HTTPError), httpx.Client(base_url=address, timeout=PATIENCE) as client:
            body = {"model": "scripted", "input": "hi", "max_output_tokens": 4}
            while True:
                answer = client.post(RESPONSES, json=body)
                if answer.status_code == 200:
                    made.append(answer.json()["id"])
                    if len(made) == 60:
                        enough.set()

    with running_server(settings) as other:
        with ThreadPoolExecutor(4) as pool, killed(process):
            for _ in range(4):
                pool.submit(ask)
            assert enough.wait(PATIENCE)
        kept = [id for id in made if is_kept(other, id)]
        assert kept
        for id in made:
            follows = respond(other, previous_response_id=id)
            assert follows.status_code == (200 if id in kept else 400), follows.text


@pytest.mark.slow
def test_what_a_killed_server_made_in_the_background_another_finishes(
    settings: Settings, url: str, tmp_path: Path
) -> None:
    slow = ("--set", f"model.served_name={MODEL}", "--set", "engine.scripted.step_ms=200")
    process = start(tmp_path, "serve", *SCRIPTED, *slow, LOCKGATE__STORE__URL=url)
    address = re.findall(r"http://\S+:\d+", greeting(process))[0]
    with running_server(settings) as other:
        with killed(process):
            wait_for(lambda: httpx.get(f"{address}/health/ready").status_code == 200)
            body = {"model": MODEL, "input": "hi", "max_output_tokens": 500, "background": True}
            made = httpx.post(f"{address}{RESPONSES}", json=body, timeout=PATIENCE).json()
            path = f"{RESPONSES}/{made['id']}"
            wait_for(lambda: other.http.get(path).status_code == 200)
        wait_for(lambda: other.http.get(path).json()["status"] in ("completed", "incomplete"))
