"""Who is let in, over real HTTP."""

import os
from collections.abc import Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import structlog

from gateway.admission.admission import is_loopback
from gateway.admission.drain import Drain
from gateway.admission.keys import KeyRing, open_key_ring
from gateway.admission.middleware import ADMIN, MONITORING, PUBLIC
from gateway.api.ops.openapi import document
from gateway.app import create_app
from gateway.settings.schema import AuthSettings, MetricsSettings, ServerSettings
from runtime.errors import SetupError
from tests.kit.api_keys import bearer, write_keys
from tests.kit.chat.answers import CHAT, HI
from tests.kit.serving import (
    MODEL,
    RunningServer,
    parse_events,
    raw_request,
    running_server,
    scripted_settings,
    wait_for,
)

KEYS = {
    "admin": {"role": "admin"},
    "alice": {},
    "elsewhere": {"models": ["other"]},
    "batch": {"priority": "batch"},
    "counted": {"requests_per_minute": 2},
    "metered": {"tokens_per_minute": 500},
    "single": {"max_concurrent_requests": 1},
}


class Guarded:
    """A server with keys."""

    def __init__(self, server: RunningServer, keys: dict[str, str]) -> None:
        self.server = server
        self.keys = keys

    def get(self, path: str, name: str | None = None) -> httpx.Response:
        return self.server.http.get(path, headers=self._headers(name))

    def post(self, path: str, name: str | None = None, **body: object) -> httpx.Response:
        return self.server.http.post(path, headers=self._headers(name), json=body)

    def chat(self, name: str | None, **body: object) -> httpx.Response:
        return self.post(CHAT, name, **{"model": MODEL, "messages": HI, "max_tokens": 3, **body})

    def _headers(self, name: str | None) -> dict[str, str]:
        return bearer(self.keys[name]) if name else {}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    file = tmp_path_factory.mktemp("keys") / "keys.toml"
    keys = write_keys(file, **KEYS)
    settings = scripted_settings(auth=AuthSettings(keys_file=str(file)))
    with running_server(settings) as server:
        yield Guarded(server, keys)


@pytest.fixture(scope="module")
def open_server() -> Iterator[RunningServer]:
    with running_server(scripted_settings()) as server:
        yield server


def error_of(response: httpx.Response) -> tuple[int, str, str | None]:
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return response.status_code, error["code"], error["param"]


UNAUTHORIZED = (401, "invalid_api_key", None)


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
    assert marked[ADMIN] == {path for h in handlers for path in h.paths if "/admin" in path}


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


def test_class_of_a_key(guarded: Guarded):
    refused = guarded.chat("batch", priority="normal")
    assert error_of(refused) == (403, "priority_not_allowed", "priority")
    assert guarded.chat("batch", priority="batch").status_code == 200
    assert guarded.chat("batch", service_tier="priority").json()["service_tier"] == "default"
    assert guarded.chat("batch", service_tier="flex").json()["service_tier"] == "flex"
    assert guarded.chat("alice", service_tier="priority").json()["service_tier"] == "priority"


def test_requests_per_minute(guarded: Guarded):
    first, second, third = (guarded.chat("counted") for _ in range(3))
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert second.headers["x-ratelimit-remaining-requests"] == "0"
    assert "x-ratelimit-limit-tokens" not in first.headers
    assert error_of(third) == (429, "rate_limit_exceeded", None)
    assert third.json()["error"]["type"] == "requests"
    assert 1 <= int(third.headers["retry-after"]) <= 61
    assert 0 < int(third.headers["retry-after-ms"]) <= 61_000
    assert third.headers["x-ratelimit-remaining-requests"] == "0"
    assert guarded.get("/v1/models", "counted").status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_tokens_per_minute_are_those_of_the_usage(tmp_path: Path, stream: bool):
    keys = write_keys(tmp_path / "keys.toml", metered={"tokens_per_minute": 500})
    settings = scripted_settings(
        auth=AuthSettings(keys_file=str(tmp_path / "keys.toml")), num_tokens=7
    )
    with running_server(settings) as server:
        guarded = Guarded(server, keys)
        options = {"stream_options": {"include_usage": True}} if stream else {}
        first = guarded.chat("metered", max_tokens=300, stream=stream, **options)
        assert first.status_code == 200
        reserved = 500 - int(first.headers["x-ratelimit-remaining-tokens"])
        answer = parse_events(first.text)[-1] if stream else first.json()
        usage, prompt_tokens = answer["usage"], answer["usage"]["prompt_tokens"]
        assert reserved == prompt_tokens + 300
        assert usage["completion_tokens"] < 10
        second = guarded.chat("metered", max_tokens=1)
        left = int(second.headers["x-ratelimit-remaining-tokens"])
        assert left == 500 - usage["total_tokens"] - (prompt_tokens + 1)
        too_much = guarded.chat("metered", max_tokens=500)
        assert error_of(too_much) == (429, "rate_limit_exceeded", None)
        assert too_much.json()["error"]["type"] == "tokens"
        assert too_much.headers["x-should-retry"] == "false"
        assert "retry-after" not in too_much.headers
        later = guarded.chat("metered", max_tokens=490 - prompt_tokens)
        assert later.status_code == 429
        assert 1 <= int(later.headers["retry-after"]) <= 61


def test_a_wrong_request_costs_no_tokens(guarded: Guarded):
    assert guarded.chat("metered", temperature=9).status_code == 400
    served = guarded.chat("metered", max_tokens=1)
    assert int(served.headers["x-ratelimit-remaining-tokens"]) > 400


def test_requests_at_a_time(tmp_path: Path):
    keys = write_keys(tmp_path / "keys.toml", single={"max_concurrent_requests": 1})
    settings = scripted_settings(
        auth=AuthSettings(keys_file=str(tmp_path / "keys.toml"), monitoring="open"), step_ms=5
    )
    with running_server(settings) as server, server.connect() as first:
        guarded = Guarded(server, keys)
        header = f"Authorization: Bearer {keys['single']}"
        body = {"messages": HI, "max_tokens": 2000}
        first.sendall(raw_request(CHAT, body, header))
        wait_for(lambda: server.health()["num_requests_in_flight"] == 1)
        refused = guarded.chat("single")
        assert error_of(refused) == (429, "rate_limit_exceeded", None)
        assert refused.headers["retry-after"] == "2"
        first.close()
        wait_for(lambda: guarded.chat("single").status_code == 200)


def test_monitoring_for_loopback(tmp_path: Path):
    write_keys(tmp_path / "keys.toml", alice={})
    auth = AuthSettings(keys_file=str(tmp_path / "keys.toml"), monitoring="loopback")
    with running_server(scripted_settings(auth=auth)) as server:
        assert server.health()["status"] == "ok"
        assert server.http.get("/metrics").status_code == 200
        assert error_of(server.http.get("/v1/models")) == UNAUTHORIZED


def test_monitoring_for_any_key(tmp_path: Path):
    """With "key" every valid key may read health and metrics, an ordinary one too; none may not."""
    keys = write_keys(tmp_path / "keys.toml", alice={})
    auth = AuthSettings(keys_file=str(tmp_path / "keys.toml"), monitoring="key")
    with running_server(scripted_settings(auth=auth)) as server:
        guarded = Guarded(server, keys)
        for path in ("/health", "/metrics"):
            assert error_of(guarded.get(path, None)) == UNAUTHORIZED
            assert guarded.get(path, "alice").status_code == 200


def test_requests_are_counted_by_the_name_of_their_key(tmp_path: Path):
    """From the key in the header to the metric: two keys by name, all others as "other"."""
    keys = write_keys(tmp_path / "keys.toml", alice={}, bob={}, admin={"role": "admin"})
    auth = AuthSettings(keys_file=str(tmp_path / "keys.toml"))
    settings = msgspec.structs.replace(
        scripted_settings(auth=auth), metrics=MetricsSettings(max_keys=1)
    )
    with running_server(settings) as server:
        guarded = Guarded(server, keys)
        for name in ("alice", "alice", "bob"):
            assert guarded.chat(name).status_code == 200

        def shown(key: str) -> bool:
            text = guarded.get("/metrics", "admin").text
            count = {"alice": 2, "other": 1}[key]
            return f'lockgate_key_generation_tokens_total{{key="{key}"}} {3.0 * count}' in text

        wait_for(lambda: shown("alice") and shown("other"))


@pytest.mark.anyio
async def test_applications_leave_the_environment_alone(monkeypatch: pytest.MonkeyPatch):
    """Whoever builds an application twice in one process gets the same keys both times."""
    monkeypatch.setenv("LOCKGATE_API_KEY", "a key of the environment")
    ring = open_key_ring(AuthSettings(), dict(os.environ))
    apps = [create_app(scripted_settings(), "", ring) for _ in range(2)]
    assert os.environ["LOCKGATE_API_KEY"] == "a key of the environment"
    for app in apps:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            assert (await client.get("/v1/models")).status_code == 401


def test_refusals_are_counted_by_reason(guarded: Guarded):
    name = 'lockgate_requests_rejected_total{reason="invalid_api_key"} '

    def count() -> float:
        lines = guarded.get("/metrics", "admin").text.splitlines()
        return next(float(line[len(name) :]) for line in lines if line.startswith(name))

    before = count()
    guarded.chat(None)
    assert count() == before + 1


def test_without_keys_admin_stays_closed(open_server: RunningServer):
    assert error_of(open_server.http.post("/admin/drain"))[0] == 403
    assert open_server.health()["status"] == "ok"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": "evil.example:8000"}, "host_not_allowed"),
        ({"Origin": "https://evil.example"}, "origin_not_allowed"),
        ({"Origin": "null"}, "origin_not_allowed"),
        ({"Host": "localhost:8000"}, None),
    ],
)
def test_web_pages_do_not_reach_a_server_without_keys(open_server: RunningServer, headers, code):
    for path in ("/v1/models", "/metrics"):
        response = open_server.http.get(path, headers=headers)
        assert response.status_code == (403 if code else 200)
        assert code is None or error_of(response)[1] == code


def test_pages_that_are_allowed_may_read_errors_too(tmp_path: Path):
    keys = write_keys(tmp_path / "keys.toml", alice={"requests_per_minute": 5})
    settings = scripted_settings(
        server=ServerSettings(cors_allow_origins=["https://chat.example"]),
        auth=AuthSettings(keys_file=str(tmp_path / "keys.toml")),
    )
    page = {"Origin": "https://chat.example"}
    with running_server(settings) as server:
        asked = {**page, "Access-Control-Request-Method": "POST"}
        preflight = server.http.options(CHAT, headers=asked)
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == "https://chat.example"
        for headers in (page, {**page, **bearer(keys["alice"])}):
            answer = server.http.get("/v1/models", headers=headers)
            assert answer.headers["access-control-allow-origin"] == "https://chat.example"
            assert "x-ratelimit-remaining-tokens" in answer.headers["access-control-expose-headers"]
        other = server.http.get("/v1/models", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


def test_a_preflight_needs_no_key_where_no_page_is_allowed(guarded: Guarded):
    asked = {"Origin": "https://chat.example", "Access-Control-Request-Method": "POST"}
    for path in (CHAT, "/v1/models", "/health", "/nothing", "/chat/completions"):
        told = guarded.server.http.options(path, headers=asked)
        assert error_of(told) == (403, "origin_not_allowed", None)
        assert "access-control-allow-origin" not in told.headers
    own = {**asked, "Origin": guarded.server.url}
    assert error_of(guarded.server.http.options(CHAT, headers=own)) == UNAUTHORIZED
    assert error_of(guarded.server.http.options(CHAT)) == UNAUTHORIZED


@pytest.mark.parametrize("origins", [["https://chat.example"], ["*"]])
def test_what_a_browser_asks_first(tmp_path: Path, origins: list[str]):
    """A preflight needs no key, names what it allows exactly, and lets no cookies through; what
    comes after it needs the key. A page that is not allowed is told nothing that it could use."""
    write_keys(tmp_path / "keys.toml", alice={})
    settings = scripted_settings(
        server=ServerSettings(cors_allow_origins=origins),
        auth=AuthSettings(keys_file=str(tmp_path / "keys.toml")),
    )
    asked = {
        "Origin": "https://chat.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type, x-stainless-os",
    }
    with running_server(settings) as server:
        told = server.http.options(CHAT, headers=asked)
        page = {"Origin": "https://chat.example"}
        posted = server.http.post(CHAT, headers=page, json={"model": MODEL, "messages": HI})
        other = server.http.options(CHAT, headers={**asked, "Origin": "https://evil.example"})
        bare = server.http.options(CHAT)

    assert (told.status_code, told.content) == (204, b"")
    assert told.headers["access-control-allow-origin"] == (
        "*" if "*" in origins else page["Origin"]
    )
    assert {"GET", "POST"} <= set(told.headers["access-control-allow-methods"].split(", "))
    allowed = told.headers["access-control-allow-headers"].lower().split(", ")
    assert {"authorization", "content-type", "x-stainless-os"} <= set(allowed)
    assert int(told.headers["access-control-max-age"]) > 0
    assert "access-control-allow-credentials" not in told.headers
    assert ("*" in origins) == ("vary" not in told.headers)
    assert error_of(posted) == UNAUTHORIZED
    assert (
        posted.headers["access-control-allow-origin"] == told.headers["access-control-allow-origin"]
    )
    assert error_of(bare) == UNAUTHORIZED
    if "*" not in origins:
        assert error_of(other) == (403, "origin_not_allowed", None)
        assert not [name for name in other.headers if name.startswith("access-control")]


@pytest.mark.parametrize("name", [b"x-client-request-id", b"X-Client-Request-Id"])
def test_what_a_client_calls_its_request_is_in_the_log(open_server: RunningServer, name: bytes):
    """And nowhere else; what is no ASCII, and more than 512 characters, is refused."""

    def ask(path: str, value: bytes, **body: object) -> httpx.Response:
        body = {"model": MODEL, "messages": HI, "max_tokens": 1, **body}
        return open_server.http.post(path, headers=[(name, value)], json=body)

    with structlog.testing.capture_logs() as lines:
        for value, code in ((b"mine: 7/8", 200), (b"~" * 512, 200), (b"", 200)):
            response = ask(CHAT, value)
            assert response.status_code == code
            assert "x-client-request-id" not in response.headers
            assert response.headers["x-request-id"].startswith("req_")
        assert ask(CHAT, b"mine", n=0).status_code == 400
        for value in (b"a" * 513, "狐".encode(), b"\xff"):
            refused = ask(CHAT, value)
            assert error_of(refused) == (400, "invalid_value", None)
            assert "X-Client-Request-Id" in refused.json()["error"]["message"]
        wait_for(lambda: len(requests_in(lines)) == 7)
    told = [line.get("client_request_id") for line in requests_in(lines)]
    assert told == ["mine: 7/8", "~" * 512, None, "mine", None, None, None]


def requests_in(lines: list[MutableMapping[str, Any]]) -> list[MutableMapping[str, Any]]:
    return [line for line in lines if line["event"] == "request" and line["endpoint"] == CHAT]


def test_without_the_setting_there_is_no_cors(open_server: RunningServer):
    answer = open_server.http.get("/v1/models", headers={"Origin": open_server.url})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        *(("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("0.0.0.0", False)),
        *(("10.0.0.1", False), ("fe80::1%eth0", False), ("", False), ("localhost", False)),
    ],
)
def test_loopback(address: str, expected: bool):
    assert is_loopback(address) is expected


def test_a_key_with_blanks_around_it_is_the_key_without():
    """Files of variables often have them."""
    environ = {"LOCKGATE_API_KEY": f"  {'k' * 24} \n"}
    ring = open_key_ring(AuthSettings(), environ)

    assert ring.find(b"k" * 24) is not None
    assert ring.find(b"  " + b"k" * 24) is None


def test_a_key_that_is_no_text_is_named():
    environ = {"LOCKGATE_API_KEY": "k" * 24 + "\udcff"}
    with pytest.raises(SetupError, match="LOCKGATE_API_KEY is not valid UTF-8"):
        open_key_ring(AuthSettings(), environ)
