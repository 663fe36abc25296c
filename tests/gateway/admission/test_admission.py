"""Who is let in, over real HTTP."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gateway.admission.drain import Drain
from gateway.admission.keys import KeyRing
from gateway.admission.middleware import ADMIN, MONITORING, PUBLIC
from gateway.api.ops.openapi import document
from gateway.app import create_app
from gateway.settings.schema import AuthSettings
from tests.kit.api_keys import bearer, write_keys
from tests.kit.chat.answers import CHAT
from tests.kit.guarded import UNAUTHORIZED, Guarded, error_of
from tests.kit.serving import (
    MODEL,
    running_server,
    scripted_settings,
    wait_for,
)


def test_every_route_that_is_not_public_needs_a_key():
    """Also those that somebody adds later: what is open is written here."""
    app = create_app(scripted_settings(), "", KeyRing(), Drain(1))
    handlers = [handler for route in app.routes for handler in getattr(route, "route_handlers", [])]
    marked = {
        option: {path for handler in handlers if handler.opt.get(option) for path in handler.paths}
        for option in (PUBLIC, MONITORING, ADMIN)
    }
    assert marked[PUBLIC] == {"/health/live", "/health/ready"}
    assert marked[MONITORING] == {"/health", "/metrics"}
    paths = {path for handler in handlers for path in handler.paths}
    assert marked[ADMIN] == {path for path in paths if "/admin" in path or "lora_adapter" in path}


@pytest.mark.parametrize("path", ["/v1/models", f"/v1/models/{MODEL}", "/health", "/metrics"])
def test_nothing_is_read_without_a_key(guarded: Guarded, path: str):
    assert error_of(guarded.get(path)) == UNAUTHORIZED
    wrong = guarded.server.http.get(path, headers=bearer("sk-lockgate-wrong"))
    assert error_of(wrong) == UNAUTHORIZED
    assert "sk-lockgate-wrong" not in wrong.text
    assert wrong.headers["www-authenticate"] == "Bearer"
    assert guarded.get(path, "admin").status_code == 200


@pytest.mark.parametrize(
    "path", [CHAT, "/v1/completions", "/admin/drain", "/admin/resume", "/admin/restart"]
)
def test_nothing_is_done_without_a_key(guarded: Guarded, path: str):
    assert error_of(guarded.post(path)) == UNAUTHORIZED


def test_no_way_around_the_key(guarded: Guarded):
    """Every path with each of its methods, OPTIONS included, also with a slash at its end."""
    paths = document(create_app(scripted_settings(), "", KeyRing(), Drain(1)).routes)["paths"]
    for path, operations in paths.items():
        if path in ("/health/live", "/health/ready"):
            continue
        for written in (path.replace("{model_id}", MODEL), f"{path}/".replace("{model_id}", "x")):
            for method in {*operations, "options"}:
                response = guarded.server.http.request(method.upper(), written)
                assert error_of(response) == UNAUTHORIZED, (method, written)


def test_a_request_without_a_key_is_refused_before_its_body_is_there(guarded: Guarded):
    with guarded.server.connect() as client:
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 401 ")


def test_both_headers_carry_the_key(guarded: Guarded):
    assert guarded.chat("alice").status_code == 200
    headers = {"x-api-key": guarded.keys["alice"]}
    assert guarded.server.http.get("/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_probes_need_no_key_and_tell_nothing(guarded: Guarded, path: str):
    response = guarded.get(path)
    assert response.status_code == 200
    assert MODEL not in response.text


@pytest.mark.parametrize("path", ["/health", "/metrics", "/admin/drain"])
def test_a_user_is_no_admin(guarded: Guarded, path: str):
    assert error_of(guarded.get(path, "alice")) == (403, "permission_denied", None)


def test_models_of_a_key(guarded: Guarded):
    """What it may not use looks like what does not exist."""
    assert guarded.get("/v1/models", "elsewhere").json()["data"] == []
    for ask in (
        lambda name: guarded.chat("elsewhere", model=name),
        lambda name: guarded.get(f"/v1/models/{name}", "elsewhere"),
    ):
        forbidden, unknown = ask(MODEL), ask("acme/nope")
        assert error_of(forbidden) == (404, "model_not_found", "model")
        assert forbidden.text == unknown.text.replace("acme/nope", MODEL)
        assert forbidden.headers.keys() == unknown.headers.keys()


BODIES: dict[str, dict[str, object]] = {
    "/generate": {"prompt": "a", "max_new_tokens": 1},
    "/tokenize": {"prompt": "a"},
    "/detokenize": {"tokens": [97]},
    "/v1/responses": {"model": MODEL, "input": "a", "max_output_tokens": 16},
    "/v1/embeddings": {"model": MODEL, "input": "a"},
}


@pytest.mark.parametrize("path", BODIES)
def test_models_of_a_key_hold_everywhere(guarded: Guarded, path: str):
    refused = guarded.post(path, "elsewhere", **BODIES[path])
    assert error_of(refused) == (404, "model_not_found", "model")
    assert guarded.post(path, "alice", **BODIES[path]).status_code == 200


@pytest.mark.parametrize("path", BODIES)
def test_all_that_is_posted_counts_and_waits_for_a_drain(tmp_path: Path, path: str):
    file = tmp_path / "keys.toml"
    keys = write_keys(file, counted={"requests_per_minute": 1}, free={}, admin={"role": "admin"})
    with running_server(scripted_settings(auth=AuthSettings(keys_file=str(file)))) as server:
        guarded = Guarded(server, keys)
        assert guarded.post(path, "counted", **BODIES[path]).status_code == 200
        refused = guarded.post(path, "counted", **BODIES[path])
        assert error_of(refused) == (429, "rate_limit_exceeded", None)

        assert guarded.post("/admin/drain", "admin", exit=False).status_code == 200
        assert guarded.post(path, "free", **BODIES[path]).status_code == 503
        assert guarded.post("/admin/resume", "admin").status_code == 200
        assert guarded.post(path, "free", **BODIES[path]).status_code == 200


def test_an_admin_restarts_the_engine_under_a_stream(tmp_path: Path):
    """And nobody else does. What is in flight goes on, and what comes meanwhile waits."""
    file = tmp_path / "keys.toml"
    keys = write_keys(file, alice={}, admin={"role": "admin"})
    settings = scripted_settings(auth=AuthSettings(keys_file=str(file)), step_ms=5)
    with running_server(settings) as server, ThreadPoolExecutor(1) as pool:
        guarded = Guarded(server, keys)

        def health() -> Any:
            return guarded.get("/health", "admin").json()

        undisturbed = guarded.chat("alice", max_tokens=60).json()
        stream = pool.submit(guarded.chat, "alice", max_tokens=60)
        wait_for(lambda: health()["progress"]["num_running"] == 1)

        assert error_of(guarded.post("/admin/restart", "alice"))[0] == 403
        answer = guarded.post("/admin/restart", "admin")
        assert (answer.status_code, answer.json()) == (
            202,
            {"status": "restarting", "num_in_flight": 1},
        )
        wait_for(lambda: health()["state"] == "restarting")
        meanwhile = guarded.chat("alice", max_tokens=60)

        for response in (stream.result(), meanwhile):
            assert response.status_code == 200, response.text
            assert response.json()["choices"] == undisturbed["choices"]
        assert health()["progress"]["num_deaths"] == 0
