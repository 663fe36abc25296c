"""What keys and admins may do with the models of a real server."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.settings.schema import Settings
from tests.gateway.api.harness import check_error
from tests.kit.api_keys import bearer, write_keys
from tests.kit.command_line import ADMIN
from tests.kit.serving import RunningServer, running_server
from tests.kit.several_models import several_settings, states

HI = [{"role": "user", "content": "hi"}]
ENDPOINTS = [
    ("/v1/chat/completions", {"messages": HI, "max_tokens": 4}),
    ("/v1/completions", {"prompt": "x", "max_tokens": 4}),
    ("/v1/embeddings", {"input": "x"}),
]


@contextmanager
def opened(settings: Settings) -> Iterator[RunningServer]:
    """A server whose admin asks."""
    with running_server(settings, environ={"LOCKGATE_ADMIN_API_KEY": ADMIN}) as server:
        server.http.headers.update(bearer(ADMIN))
        yield server


@pytest.mark.parametrize(("path", "body"), ENDPOINTS)
def test_the_first_model_of_a_key_answers_requests_that_name_none(
    tmp_path: Path, path: str, body: dict[str, Any]
) -> None:
    file = tmp_path / "keys.toml"
    restrictions: dict[str, list[str]] = {
        "b": ["b"],
        "short": ["short"],
        "c": ["gone", "c", "b"],
        "a": ["b", "a"],
        "gone": ["gone"],
        "none": [],
    }
    keys = write_keys(file, **{key: {"models": names} for key, names in restrictions.items()})
    settings = several_settings(
        {name: {"load": "start"} for name in "abc"},
        auth={"keys_file": str(file)},
        model={"aliases": {"short": "b"}},
    )
    with running_server(settings) as server:
        for key, answers in (("b", "b"), ("short", "b"), ("c", "c"), ("a", "a")):
            response = server.http.post(path, json=body, headers=bearer(keys[key]))
            assert response.status_code == 200, response.text
            assert response.json()["model"] == answers
        for key, status in (("gone", 404), ("none", 400)):
            response = server.http.post(path, json=body, headers=bearer(keys[key]))
            check_error(response, status, "model", "model_not_found")
            assert "`a`" not in response.text


def test_a_model_that_is_unloaded_by_force_tells_its_requests() -> None:
    engine = {"scripted": {"step_ms": 20}}
    with opened(several_settings({"a": {"load": "start", "engine": engine}})) as server:
        body = {"model": "a", "messages": HI, "max_tokens": 3000, "stream": True}
        with server.http.stream("POST", "/v1/chat/completions", json=body) as response:
            lines = response.iter_lines()
            assert next(lines)
            unload = server.http.post("/admin/models/a/unload", json={"force": True})
            assert unload.status_code == 202
            text = "\n".join(lines)
        events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
        assert events[-1]["error"]["code"] == "engine_unavailable"
        assert events[-1]["error"]["message"] == "The model `a` was unloaded."


@pytest.mark.parametrize("path", ["/admin/models/b/load", "/admin/restart"])
def test_a_server_that_ends_loads_nothing_for_admins(path: str) -> None:
    engine = {"scripted": {"step_ms": 20}}
    settings = several_settings({"a": {"load": "start", "engine": engine}, "b": {}})
    with opened(settings) as server:
        body = {"model": "a", "messages": HI, "max_tokens": 3000, "stream": True}
        with server.http.stream("POST", "/v1/chat/completions", json=body) as response:
            assert next(response.iter_lines())
            assert server.http.post("/admin/drain").status_code == 200
            answer = server.http.post(path, json={"model": "b"} if "restart" in path else None)
            check_error(answer, 503, None, "server_draining")
            assert states(server)["b"] == "unloaded"
