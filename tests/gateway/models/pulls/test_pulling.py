"""Models that a running server downloads, for admins and for requests."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec import structs

from gateway.models.pulls.pulls import MAX_RUNNING
from gateway.settings.schema import AuthSettings, LoadingSettings, Settings
from tests.gateway.api.harness import check_error
from tests.kit.api_keys import bearer, write_keys
from tests.kit.engines import needs_llama_library
from tests.kit.hub.environment import hub_of
from tests.kit.hub.server import FakeHub, Fault
from tests.kit.serving import (
    RunningServer,
    running_server,
    scripted_settings,
    tiny_settings,
    wait_for,
)

hub = pytest.fixture(hub_of)
pytestmark = pytest.mark.usefixtures("own_folder")

NAME = "u/r:Q8_0"
PULL = f"/admin/models/{NAME}/pull"


@pytest.fixture
def model(tiny_model_path: Path, hub: FakeHub) -> bytes:
    """A model that the hub has."""
    content = tiny_model_path.read_bytes()
    hub.add("u/r", {"m-Q8_0.gguf": content, "m-Q4_K_M.gguf": content + b"4"})
    return content


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, str]:
    return write_keys(
        tmp_path / "keys.toml", boss={"role": "admin"}, user={}, other={"models": ["acme/parrot"]}
    )


@pytest.fixture
def settings(tmp_path: Path, keys: dict[str, str]) -> Settings:
    return allowing(scripted_settings(auth=AuthSettings(keys_file=str(tmp_path / "keys.toml"))))


@pytest.fixture
def server(model: bytes, settings: Settings, keys: dict[str, str]) -> Iterator[RunningServer]:
    """Its admin asks."""
    with running_server(settings) as running:
        running.http.headers.update(bearer(keys["boss"]))
        yield running


def allowing(settings: Settings, *, pull: bool = True) -> Settings:
    return structs.replace(settings, loading=LoadingSettings(allow_pull=pull))


def events(text: str) -> list[Any]:
    found = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    return [json.loads(each) if each != "[DONE]" else each for each in found]


def ask(server: RunningServer, name: str = NAME, key: str = "") -> httpx.Response:
    body = {"model": name, "prompt": "x", "max_tokens": 2}
    headers = bearer(key) if key else None
    return server.http.post("/v1/completions", json=body, headers=headers, timeout=60)


def running_pulls() -> int:
    return sum(thread.name == "pull" for thread in threading.enumerate())


def test_an_admin_sees_how_far_a_download_is(
    server: RunningServer, hub: FakeHub, model: bytes
) -> None:
    hub.faults.append(Fault("/store/", pause=0.3))
    response = server.http.post(PULL)

    assert response.headers["content-type"].startswith("text/event-stream")
    *told, last, end = events(response.text)
    assert end == "[DONE]"
    assert last == {
        "model": NAME,
        "status": "success",
        "activity": "",
        "completed": len(model),
        "total": len(model),
    }
    assert {each["status"] for each in told} <= {"pulling"}
    completed = [each["completed"] for each in told if each["total"]]
    assert completed == sorted(completed)

    assert server.http.post(PULL, json={"stream": False}).json() == last
    assert len(hub.downloads()) == 1


def test_what_cannot_be_pulled_is_told_at_once(server: RunningServer, hub: FakeHub) -> None:
    cases = {
        "u/none": "u/none",
        "u/r:Q2_K": "Q4_K_M",
        "https://example.com/a/b.gguf": "give a name of the catalogue or of the hub",
        "/etc/passwd": "no repository etc/passwd",
        "plainname": "give a name of the catalogue or of the hub",
        "u/r%00": "give a name of the catalogue or of the hub",
        "u/r%7F": "give a name of the catalogue or of the hub",
    }
    for name, said in cases.items():
        response = server.http.post(f"/admin/models/{name}/pull")
        check_error(response, 404, "model", "model_not_found")
        assert said in response.json()["error"]["message"], name
    check_error(server.http.post(PULL, json={"stream": 1}), 400, "stream", "invalid_type")
    hub.faults.append(Fault("/api/models", times=20, status=500))
    response = server.http.post(PULL)
    assert response.status_code == 503
    assert hub.downloads() == []


def test_only_admins_pull(server: RunningServer, hub: FakeHub, keys: dict[str, str]) -> None:
    for key in ("user", "other"):
        assert server.http.post(PULL, headers=bearer(keys[key])).status_code == 403
    assert hub.requests == []


def test_a_download_that_fails_ends_the_stream_with_the_reason(
    server: RunningServer, hub: FakeHub
) -> None:
    hub.repositories["u/r"].listed_oids["m-Q8_0.gguf"] = "0" * 64
    *_, last, end = events(server.http.post(PULL).text)
    assert "SHA-256" in last["error"]["message"]
    assert end == "[DONE]"
    whole = server.http.post(PULL, json={"stream": False})
    assert whole.status_code == 503
    assert "SHA-256" in whole.json()["error"]["message"]


def test_one_that_nobody_waits_for_ends_and_the_next_goes_on(
    server: RunningServer, hub: FakeHub, model: bytes
) -> None:
    hub.faults.append(Fault("/store/", pause=0.2))
    with server.http.stream("POST", PULL) as response:
        for line in response.iter_lines():
            if line and json.loads(line.removeprefix("data: "))["completed"] > 0:
                break
    wait_for(lambda: running_pulls() == 0)

    response = server.http.post(PULL, json={"stream": False})
    assert response.json()["completed"] == len(model)
    first, second = hub.downloads()
    assert first.byte_range is None
    assert second.byte_range is not None


def test_two_who_want_the_same_share_a_download(server: RunningServer, hub: FakeHub) -> None:
    hub.faults.append(Fault("/store/", pause=0.05))
    with server.http.stream("POST", PULL) as one, server.http.stream("POST", PULL) as other:
        assert events(one.read().decode())[-2]["status"] == "success"
        assert events(other.read().decode())[-2]["status"] == "success"
    assert len(hub.downloads()) == 1


def test_a_few_run_at_once(server: RunningServer, hub: FakeHub, model: bytes) -> None:
    for number in range(MAX_RUNNING + 1):
        hub.add(f"u/m{number}", {"m-Q8_0.gguf": model + bytes([number])})
    hub.faults.append(Fault("/store/", times=MAX_RUNNING, pause=0.1))
    paths = [f"/admin/models/u/m{number}/pull" for number in range(MAX_RUNNING + 1)]
    streams = [server.http.stream("POST", path) for path in paths]
    responses = [stream.__enter__() for stream in streams]
    first = next(responses[-1].iter_lines())
    assert json.loads(first.removeprefix("data: "))["activity"] == "waiting for other downloads"
    assert running_pulls() <= MAX_RUNNING
    for stream in streams:
        stream.__exit__(None, None, None)
    wait_for(lambda: running_pulls() == 0)


def test_the_end_of_the_server_ends_downloads(
    settings: Settings, keys: dict[str, str], hub: FakeHub, model: bytes
) -> None:
    hub.faults.append(Fault("/store/", pause=0.2))
    with running_server(settings) as server:
        stream = server.http.stream("POST", PULL, headers=bearer(keys["boss"]))
        stream.__enter__()
        wait_for(lambda: running_pulls() == 1)
    wait_for(lambda: running_pulls() == 0)


def test_a_request_waits_until_its_model_is_there(
    server: RunningServer, hub: FakeHub, keys: dict[str, str]
) -> None:
    response = ask(server, key=keys["user"])
    assert response.status_code == 200, response.text
    assert response.json()["model"] == NAME
    assert ask(server).status_code == 200
    assert len(hub.downloads()) == 1
    listed = {each["id"] for each in server.http.get("/v1/models").json()["data"]}
    assert NAME in listed


def test_a_request_for_what_is_not_there_leaves_nothing(
    server: RunningServer, hub: FakeHub, keys: dict[str, str]
) -> None:
    before = server.http.get("/v1/models").json()
    for name in (
        "u/none",
        "u/r:Q2_K",
        "https://example.com/a/b.gguf",
        "/etc/passwd",
        "../x/y",
        "u/\0r",
    ):
        check_error(ask(server, name), 404, "model", "model_not_found")
    hub.requests.clear()
    check_error(ask(server, key=keys["other"]), 404, "model", "model_not_found")
    assert hub.requests == []
    hub.faults.append(Fault("/api/models", times=20, status=500))
    assert ask(server).status_code == 503
    assert server.http.get("/v1/models").json() == before


def test_a_request_whose_download_fails_hears_so(
    server: RunningServer, hub: FakeHub, tmp_path: Path
) -> None:
    hub.repositories["u/r"].listed_oids["m-Q8_0.gguf"] = "0" * 64
    response = ask(server)
    assert response.status_code == 503
    assert str(tmp_path) not in response.text
    assert "SHA-256" in server.health()["models"][NAME]["reason"]


def test_a_client_that_leaves_ends_its_download(
    server: RunningServer, hub: FakeHub, model: bytes
) -> None:
    hub.faults.append(Fault("/store/", pause=0.2))
    with pytest.raises(httpx.ReadTimeout):
        server.http.post("/v1/completions", json={"model": NAME, "prompt": "x"}, timeout=0.8)
    assert "It is downloaded: " in server.health()["models"][NAME]["reason"]
    wait_for(lambda: running_pulls() == 0)
    wait_for(lambda: server.health()["models"][NAME]["state"] == "unloaded")
    assert ask(server).status_code == 200


@pytest.mark.parametrize("offline", [False, True])
def test_nothing_is_pulled_unless_it_is_allowed(
    settings: Settings, keys: dict[str, str], hub: FakeHub, model: bytes, offline: bool
) -> None:
    if offline:
        settings = structs.replace(settings, model=structs.replace(settings.model, offline=True))
    else:
        settings = allowing(settings, pull=False)
    with running_server(settings) as server:
        check_error(ask(server, key=keys["user"]), 404, "model", "model_not_found")
    assert hub.requests == []


@pytest.mark.posix("Linux loads no library of Windows")
def test_a_pulled_model_answers_on_the_real_engine(
    tiny_model_path: Path, model: bytes, hub: FakeHub
) -> None:
    needs_llama_library()
    with running_server(allowing(tiny_settings()), model_path=str(tiny_model_path)) as server:
        response = ask(server)
        assert response.status_code == 200, response.text
        body = {"model": NAME, "prompt": "x", "max_tokens": 4, "stream": True}
        assert server.http.post("/v1/completions", json=body).text.endswith("data: [DONE]\n\n")
        assert server.health()["models"][NAME]["state"] == "ready"
