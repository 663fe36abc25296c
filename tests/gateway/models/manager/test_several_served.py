"""Several models in a real server, each with an engine process of its own."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from gateway.settings.schema import Settings
from tests.gateway.api.harness import check_error
from tests.kit.api_keys import bearer, write_keys
from tests.kit.serving import (
    RunningServer,
    parse_events,
    raw_request,
    running_server,
    text_of_chunks,
    wait_for,
)
from tests.kit.several_models import (
    ask,
    says_its_name,
    several_settings,
    states,
    until_state,
)
from tests.kit.supervised import engine_processes

HI = [{"role": "user", "content": "hi"}]


class Streaming:
    """A stream that a thread reads."""

    def __init__(self, server: RunningServer, model: str, num_tokens: int) -> None:
        self.events: list[str] = []
        self._server, self._model, self._num_tokens = server, model, num_tokens
        self._is_over = False
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        wait_for(lambda: any(event.startswith("data:") for event in self.events))

    def _read(self) -> None:
        body: dict[str, Any] = {"model": self._model, "messages": HI, "stream": True}
        body |= {"max_tokens": self._num_tokens, "temperature": 0}
        with self._server.http.stream("POST", "/v1/chat/completions", json=body) as response:
            self.events = [f"HTTP {response.status_code}"]
            for line in response.iter_lines():
                self.events.append(line)
                if self._is_over:
                    return

    def leave(self) -> None:
        self._is_over = True
        self._thread.join(60)

    def text(self) -> str:
        self._thread.join(60)
        assert self.events[0] == "HTTP 200"
        return text_of_chunks(parse_events("\n".join(self.events[1:]) + "\n"))


def test_each_answers_under_its_own_name() -> None:
    settings = several_settings({"a": {"load": "start"}, "acme/b": {"load": "start"}, "c": {}})
    with running_server(settings) as server:
        for name in ("a", "acme/b", "c"):
            assert says_its_name(ask(server, name), name)
        default = server.http.post("/v1/chat/completions", json={"messages": HI, "max_tokens": 4})
        assert default.json()["model"] == "a"
        unknown = server.chat(model="d")
        assert unknown.status_code == 404
        assert "`a`, `acme/b`, `c`" in unknown.json()["error"]["message"]
        listed = server.http.get("/v1/models").json()["data"]
        assert [(each["id"], each["state"]) for each in listed] == [
            ("a", "ready"),
            ("acme/b", "ready"),
            ("c", "ready"),
        ]
        assert all("completion" in each["capabilities"] for each in listed)
        assert server.metric('request_success_total{model_name="c"}') == 1
        assert server.metric('engine_state{model_name="c", state="ready"}') == 1


def test_one_loads_while_another_streams() -> None:
    slow = {"scripted": {"load_ms": 1500}}
    settings = several_settings(
        {"a": {"load": "start", "engine": {"scripted": {"step_ms": 20}}}, "b": {"engine": slow}}
    )
    with running_server(settings) as server:
        assert states(server) == {"a": "ready", "b": "unloaded"}
        assert "max_model_len" not in server.http.get("/v1/models/b").json()
        stream = Streaming(server, "a", 150)
        assert says_its_name(ask(server, "b"), "b")
        assert says_its_name(stream.text(), "a")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "x", "max_tokens": 4}),
        ("/v1/responses", {"input": "x", "max_output_tokens": 16}),
        ("/v1/responses/input_tokens", {"input": "x"}),
        ("/generate", {"prompt": "x", "max_new_tokens": 4}),
        ("/tokenize", {"prompt": "x"}),
        ("/detokenize", {"tokens": [65]}),
    ],
)
def test_every_endpoint_waits_for_its_model(path: str, body: dict[str, Any]) -> None:
    with running_server(several_settings({"b": {}})) as server:
        assert server.http.get("/health/ready").status_code == 200, "it takes requests"
        assert server.health()["state"] == "unloaded"
        response = server.http.post(path, json={"model": "b", **body})
        assert response.status_code == 200, response.text
        assert states(server) == {"b": "ready"}


def test_mistakes_load_nothing_and_embeddings_do() -> None:
    with running_server(several_settings({"b": {}})) as server:
        assert server.chat(model="b", temperature=-1).status_code == 400
        assert server.http.post("/tokenize", json={"model": "b"}).status_code == 400
        assert states(server) == {"b": "unloaded"}
        response = server.http.post("/v1/embeddings", json={"model": "b", "input": "x"})
        assert response.status_code == 200
        assert response.json()["model"] == "b"


def test_the_idle_one_makes_room() -> None:
    """The one that streams is held, and stays."""
    table = {"memory_gb": 1.0, "engine": {"scripted": {"step_ms": 20}}}
    settings = several_settings(
        dict.fromkeys("abc", table), loading={"max_memory_gb": 2.0, "drain_after": 60.0}
    )
    with running_server(settings) as server:
        stream = Streaming(server, "a", 30_000)
        assert says_its_name(ask(server, "b"), "b")
        assert says_its_name(ask(server, "c"), "c")
        assert states(server) == {"a": "ready", "b": "unloaded", "c": "ready"}
        assert server.health()["models"]["a"]["num_requests"] == 1
        stream.leave()
        wait_for(lambda: server.health()["models"]["a"]["num_requests"] == 0)
        assert says_its_name(ask(server, "b"), "b")
        assert states(server) == {"a": "ready", "b": "ready", "c": "unloaded"}
        assert len(engine_processes()) == 2


def test_an_idle_model_leaves_and_comes_back() -> None:
    with running_server(several_settings({"a": {"idle_seconds": 0.3}})) as server:
        assert says_its_name(ask(server, "a"), "a")
        until_state(server, "a", "unloaded")
        wait_for(lambda: engine_processes() == [])
        assert server.metric('engine_state{model_name="a", state="unloaded"}') == 1
        assert server.http.get("/v1/models/a").json()["max_model_len"] > 0
        assert says_its_name(ask(server, "a"), "a")
        assert server.health()["models"]["a"]["num_loads"] == 2


def test_the_death_of_one_engine_leaves_the_others_alone() -> None:
    table = {"load": "start", "engine": {"scripted": {"step_ms": 20}}}
    with running_server(several_settings({"a": table, "b": table})) as server:
        wait_for(lambda: set(states(server).values()) == {"ready"})
        first, second = Streaming(server, "a", 150), Streaming(server, "b", 150)
        victim = psutil.Process(server.health()["engine"]["pid"])
        victim.kill()
        assert says_its_name(second.text(), "b")
        assert says_its_name(first.text(), "a"), "it goes on with the next engine"
        assert server.metric('engine_restarts_total{model_name="a"}') == 1
        assert server.metric('engine_restarts_total{model_name="b"}') == 0


def test_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    """Its requests are refused with the reason, and the others are served."""
    settings = several_settings(
        {"a": {"load": "start"}, "b": {"tokenizer": str(tmp_path / "no.gguf")}}
    )
    with running_server(settings) as server:
        for stream in (False, True):
            response = server.chat(model="b", stream=stream)
            check_error(response, 503, None, "engine_unavailable")
            assert response.json()["error"]["message"] == (
                "The model `b` could not be loaded; the server's log says why."
            )
            assert 20 <= int(response.headers["retry-after"]) <= 30
        health = server.health()
        assert (health["status"], health["models"]["b"]["state"]) == ("ok", "failed")
        assert "no.gguf" in health["models"]["b"]["reason"]
        assert health["models"]["b"]["num_loads"] == 0
        assert says_its_name(ask(server, "a"), "a")


def slow_to_load(**server: Any) -> Settings:
    table = {"engine": {"scripted": {"load_ms": 1200}}}
    return several_settings({"a": table}, server={"keep_alive_interval": 0.1, **server})


def test_a_stream_is_kept_alive_while_its_model_loads() -> None:
    with running_server(slow_to_load()) as server:
        response = server.chat(model="a", max_tokens=8, temperature=0, stream=True)
        assert response.status_code == 200
        assert response.text.startswith(": keep-alive\n\n: keep-alive\n\n")
        assert says_its_name(text_of_chunks(parse_events(response.text)), "a")


@pytest.mark.parametrize(
    ("path", "body", "end"),
    [
        ("/v1/chat/completions", {"messages": HI}, "data: [DONE]\n\n"),
        ("/v1/completions", {"prompt": "x"}, "data: [DONE]\n\n"),
        ("/v1/responses", {"input": "x"}, "}\n\n"),
    ],
)
def test_a_load_that_fails_in_mid_stream(path: str, body: dict[str, Any], end: str) -> None:
    """Comments were sent already: the error is an event in the API's own form."""
    with running_server(slow_to_load(request_timeout=0.6)) as server:
        response = server.http.post(path, json={"model": "a", "stream": True, **body})
        assert response.status_code == 200
        comments, _, event = response.text.rpartition(": keep-alive\n\n")
        assert comments
        assert "was not loaded by the request's deadline" in event
        assert event.startswith("event: error\n" if "responses" in path else 'data: {"error":')
        assert event.endswith(end)


def test_a_client_that_leaves_gives_its_place_back() -> None:
    with running_server(slow_to_load()) as server:
        with server.connect() as connection:
            connection.sendall(raw_request("/v1/completions", {"model": "a", "prompt": "x"}))
            wait_for(lambda: server.health()["models"]["a"]["num_waiting"] == 1)
        wait_for(lambda: server.health()["models"]["a"]["num_waiting"] == 0)
        until_state(server, "a", "ready")
        assert server.health()["models"]["a"]["num_requests"] == 0


def test_admins_load_and_unload(tmp_path: Path) -> None:
    keys = write_keys(
        tmp_path / "keys.toml", boss={"role": "admin"}, user={}, only_a={"models": ["a"]}
    )
    settings = several_settings(
        {"a": {"load": "start"}, "acme/b": {"load": "never"}},
        auth={"keys_file": str(tmp_path / "keys.toml")},
    )
    with running_server(settings) as server:
        boss, user, only_a = (bearer(keys[name]) for name in ("boss", "user", "only_a"))

        def reports() -> dict[str, Any]:
            found = server.http.get("/admin/models", headers=boss).json()["models"]
            return {each["name"]: each for each in found}

        def chat(name: str, key: dict[str, str]) -> httpx.Response:
            body = {"model": name, "messages": HI, "max_tokens": 4}
            return server.http.post("/v1/chat/completions", json=body, headers=key)

        load, unload = "/admin/models/acme/b/load", "/admin/models/acme/b/unload"
        assert server.http.post(load, headers=user).status_code == 403
        assert chat("acme/b", user).status_code == 503
        assert chat("acme/b", only_a).status_code == 404
        response = server.http.post(load, headers=boss)
        assert (response.status_code, response.json()["state"]) == (202, "loading")
        wait_for(lambda: reports()["acme/b"]["state"] == "ready")
        assert chat("acme/b", user).status_code == 200
        wait_for(lambda: reports()["acme/b"]["memory_bytes"] > 1_000_000)
        assert server.http.post(unload, headers=boss).status_code == 202
        wait_for(lambda: reports()["acme/b"]["state"] == "unloaded")
        assert chat("acme/b", user).status_code == 503
        restart = server.http.post("/admin/restart", headers=boss, json={"model": "acme/b"})
        assert restart.status_code == 202
        wait_for(lambda: reports()["acme/b"]["state"] == "ready")
        for path in ("/admin/models/x/load", "/admin/models/a/sing", "/admin/models/load"):
            assert server.http.post(path, headers=boss).status_code == 404, path
        for path, body, name in ((load, {"wait": True}, "wait"), (unload, {"x": 1}, "x")):
            wrong = server.http.post(path, headers=boss, json=body)
            check_error(wrong, 400, name, wrong.json()["error"]["code"])
        wrong = server.http.post(unload, headers=boss, json={"force": 1})
        check_error(wrong, 400, "force", wrong.json()["error"]["code"])


@pytest.mark.slow
def test_many_requests_over_more_models_than_fit() -> None:
    """None is lost, none is answered by another model, and loads are bounded."""
    names = [("abcd"[(i * i + i // 3) % 4]) for i in range(200)]
    settings = several_settings(
        {name: {"memory_gb": 1.0} for name in "abcd"},
        loading={"max_memory_gb": 2.0, "drain_after": 1.0},
    )
    with running_server(settings) as server, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda name: (name, ask(server, name)), names))
        assert [name for name, text in answers if not says_its_name(text, name)] == []
        reports = server.health()["models"].values()
        loads = sum(each["num_loads"] for each in reports)
        assert 4 <= loads <= sum(a != b for a, b in pairwise(names)) + 1
        assert all(each["num_requests"] == each["num_waiting"] == 0 for each in reports)
        assert len(engine_processes()) == 2
