"""Web pages, and requests without keys, over real HTTP."""

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from gateway.admission.keys import open_key_ring
from gateway.admission.loopback import is_loopback
from gateway.settings.schema import AuthSettings, ServerSettings
from runtime.errors import SetupError
from tests.kit.api_keys import bearer, write_keys
from tests.kit.chat.answers import CHAT, HI
from tests.kit.guarded import UNAUTHORIZED, Guarded, error_of
from tests.kit.serving import (
    MODEL,
    RunningServer,
    running_server,
    scripted_settings,
    wait_for,
)


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
