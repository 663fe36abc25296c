"""Paths without `/v1`, with too much of it, and those of other servers."""

import json
import time
from collections.abc import Iterator

import pytest

from gateway.app import ROUTES
from gateway.http.other_paths import ELSEWHERE, OtherPaths
from tests.kit.chat.answers import HI
from tests.kit.serving import MODEL, RunningServer, running_server, scripted_settings

SHORT = {"model": MODEL, "max_tokens": 3}
POSTS = {
    "/chat/completions": {**SHORT, "messages": HI},
    "/completions": {**SHORT, "prompt": "a"},
    "/responses": {"model": MODEL, "input": "a", "max_output_tokens": 16},
    "/responses/input_tokens": {"model": MODEL, "input": "a"},
    "/embeddings": {"model": MODEL, "input": "a"},
}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(scripted_settings()) as running:
        yield running


@pytest.mark.parametrize("path", POSTS)
def test_a_path_without_v1_is_the_same_route(server: RunningServer, path: str):
    for body in (POSTS[path], {}, {**POSTS[path], "model": "nope"}):
        full = server.http.post(f"/v1{path}", json=body)
        short = server.http.post(path, json=body)
        assert short.status_code == full.status_code
        assert short.json().keys() == full.json().keys()
        assert full.status_code == 200 or short.json() == full.json()


def test_models_without_v1(server: RunningServer):
    assert server.http.get("/models").json() == server.http.get("/v1/models").json()
    assert server.http.get(f"/models/{MODEL}").json()["id"] == MODEL


def test_streams_and_counters_do_not_know_the_difference(server: RunningServer):
    counted = 'http_requests_total{endpoint="/v1/chat/completions",status="200"}'
    before = server.metric(counted)
    chunks = server.chunks("/chat/completions", messages=HI, max_tokens=3)
    assert chunks[-1]["choices"][0]["finish_reason"]
    assert server.metric(counted) == before + 1
    assert 'endpoint="/chat' not in server.http.get("/metrics").text


def test_the_document_shows_each_route_once(server: RunningServer):
    paths = server.http.get("/openapi.json").json()["paths"]
    assert "/v1/chat/completions" in paths
    assert not {"/chat/completions", "/models", "/responses"} & paths.keys()


@pytest.mark.parametrize("method", ["get", "post", "delete", "options"])
def test_a_method_that_the_route_does_not_take(server: RunningServer, method: str):
    full = server.http.request(method, "/v1/models")
    short = server.http.request(method, "/models")
    assert short.status_code == full.status_code
    assert short.headers.get("allow") == full.headers.get("allow")


MEANT = {
    **ELSEWHERE,
    "/v1/v1/chat/completions": "/v1/chat/completions",
    "/v1/chat/completions/chat/completions": "/v1/chat/completions",
    "/openai/v1/models": "/v1/models",
    "/openai/deployments/x/embeddings": "/v1/embeddings",
    "/api/v1/responses": "/v1/responses",
    "/v1/chat/completion": "/v1/chat/completions",
    "/v1/completion": "/v1/completions",
    "/v1/embedding": "/v1/embeddings",
    "/v1/health": "/health",
    "/v1/metrics": "/metrics",
    "/v1/tokenize": "/tokenize",
}


@pytest.mark.parametrize("path", MEANT)
def test_what_is_not_here_names_what_is(server: RunningServer, path: str):
    for method in ("GET", "POST"):
        answer = server.http.request(method, path)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (404, "unknown_url")
        assert error["message"].endswith(f"Do you mean {MEANT[path]}?")


@pytest.mark.parametrize("path", ["/", "/nothing", "/v1/nothing", "/v1", "/favicon.ico", "/api"])
def test_what_nobody_can_guess_has_no_hint(server: RunningServer, path: str):
    answer = server.http.get(path)
    assert answer.status_code == 404
    assert "mean" not in answer.text


@pytest.mark.parametrize("prefix", ["", "/v1"])
@pytest.mark.parametrize("path", ["/models/load", "/models/unload"])
def test_an_action_that_is_not_here_is_no_id(server: RunningServer, prefix: str, path: str):
    answer = server.http.post(prefix + path, json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")
    assert "mean" not in answer.text
    assert "allow" not in answer.headers
    assert server.http.post("/v1/models/other").status_code == 405


def test_hints_are_paths_of_routes():
    paths = {path for route in ROUTES for path in route.paths}
    assert set(ELSEWHERE.values()) <= paths
    assert not set(ELSEWHERE) & paths


def test_a_long_path_takes_no_time():
    other_paths = OtherPaths(ROUTES)
    began = time.thread_time()
    for path in ("/v1" * 20_000, "/" * 60_000, "/v1/" + "a" * 60_000, "/models/" + "x/" * 30_000):
        other_paths.alias_of(path)
        other_paths.meant(path)
    assert time.thread_time() - began < 0.1
    assert json.dumps(other_paths.meant("/" + "a" * 60_000)) == "null"
