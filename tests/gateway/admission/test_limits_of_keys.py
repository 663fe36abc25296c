"""What a key may use, and who may monitor, over real HTTP."""

import os
from pathlib import Path

import httpx
import msgspec
import pytest

from gateway.admission.keys import open_key_ring
from gateway.app import create_app
from gateway.settings.schema import AuthSettings, MetricsSettings
from tests.kit.api_keys import write_keys
from tests.kit.chat.answers import CHAT, HI
from tests.kit.guarded import UNAUTHORIZED, Guarded, error_of
from tests.kit.serving import (
    parse_events,
    raw_request,
    running_server,
    scripted_settings,
    wait_for,
)


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
