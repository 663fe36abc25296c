"""What a server says of itself over real HTTP, from before the model to after the engine."""

import re
from concurrent.futures import ThreadPoolExecutor

import openai
import psutil
import pytest

from gateway.settings.schema import ServerSettings
from runtime.messages.engine import EngineStats, EngineUsage
from tests.gateway.api.harness import check_error, strict_client
from tests.kit.chat.answers import CHAT, HI, TEXT
from tests.kit.serving import (
    MODEL,
    parse_events,
    running_server,
    scripted_settings,
    text_of_chunks,
    wait_for,
)


def test_metrics_equal_usage(server):
    """Counters are exactly the sum of what the responses said."""
    names = ("prompt_tokens_total", "generation_tokens_total")
    before = [server.metric(name) for name in names]
    stops = server.metric('request_success_total{finished_reason="stop"}')
    first_tokens = server.metric("time_to_first_token_seconds_count")
    later_tokens = server.metric("inter_token_latency_seconds_count")
    usages = [
        server.chat(max_tokens=7).json()["usage"],
        server.chat(n=2, max_tokens=150, stop="fox").json()["usage"],
        server.post(TEXT, prompt=["a", "bc"], max_tokens=3, n=2).json()["usage"],
        server.post(TEXT, prompt="abc", max_tokens=0, echo=True).json()["usage"],
        server.chunks(CHAT, messages=HI, max_tokens=50, stream_options={"include_usage": True})[-1][
            "usage"
        ],
    ]

    after = [server.metric(name) for name in names]
    assert after[0] - before[0] == sum(usage["prompt_tokens"] for usage in usages)
    assert after[1] - before[1] == sum(usage["completion_tokens"] for usage in usages)
    assert server.metric('request_success_total{finished_reason="stop"}') == stops + 2
    assert server.metric("time_to_first_token_seconds_count") == first_tokens + 4
    num_choices = 1 + 2 + 4 + 1  # those that have tokens: each but the first ends a gap
    gaps = sum(usage["completion_tokens"] for usage in usages) - num_choices
    assert server.metric("inter_token_latency_seconds_count") == later_tokens + gaps
    assert server.metric("engine_generation_tokens_total") >= after[1]


def test_metrics_of_http(server):
    server.http.get("/nowhere")
    text = server.http.get("/metrics")

    assert re.fullmatch(r"text/plain; version=[0-9.]+; charset=utf-8", text.headers["content-type"])
    assert server.metric('http_requests_total{endpoint="unknown",status="404"}') >= 1
    assert server.metric('time_to_first_token_seconds_bucket{le="0.001"}') >= 0


def test_health(server):
    assert server.http.get("/health/live").json() == {"status": "ok"}
    assert server.http.get("/health/ready").json() == {"status": "ok", "reason": ""}
    health = server.health()
    assert health["status"] == "ok"
    assert health["state"] == "ready"
    assert health["model"] == MODEL
    assert health["engine"]["engine"] in ("scripted", "tensorrt_llm")
    assert health["limits"]["max_model_len"] == 2048
    numbers = {*EngineStats.__struct_fields__, *EngineUsage.__struct_fields__} - {"usage", "disk"}
    assert {name for name in health["stats"] if not name.startswith("disk_")} == numbers
    assert {"disk_hit_tokens", "disk_bytes"} < set(health["stats"])
    assert all(isinstance(number, int | float) for number in health["stats"].values())


def test_silence_is_filled_with_comments():
    """Also before the first token, where the headers go out with the first comment."""
    settings = scripted_settings(server=ServerSettings(keep_alive_interval=0.05), step_ms=200)
    with running_server(settings) as server:
        response = server.chat(max_tokens=3, stream=True)

    assert response.status_code == 200
    events = response.text.split("\n\n")
    assert events[0] == ": keep-alive"
    assert events.count(": keep-alive") >= 4
    assert len(text_of_chunks(parse_events(response.text))) == 3


def test_until_the_model_is_loaded():
    """Liveness at once; everything else says when to come back."""
    settings = scripted_settings(load_ms=60_000)
    with running_server(settings, wait_until_ready=False) as server:
        assert server.http.get("/health/live").status_code == 200
        for path in ("/health/ready", "/health"):
            response = server.http.get(path)
            assert response.status_code == 503
            assert int(response.headers["retry-after"]) >= 1
        response = server.chat()
        check_error(response, 503, None, "engine_unavailable")
        assert int(response.headers["retry-after"]) >= 1
        assert int(response.headers["retry-after-ms"]) >= 1
        assert server.post(TEXT, prompt="a").status_code == 503
        assert server.http.get("/v1/models").status_code == 200
        assert server.metric("engine_ready") == 0
        with strict_client(server) as client, pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(model=MODEL, messages=HI)
        assert caught.value.status_code == 503


def test_a_start_says_what_it_waits_for():
    """In words to whoever asks for an answer, and in numbers to monitors."""
    with running_server(scripted_settings(load_ms=60_000), wait_until_ready=False) as server:
        wait_for(lambda: (server.http.get("/health").json()["loading"] or {}).get("fraction"))
        health = server.http.get("/health").json()
        loading = health["loading"]
        assert loading["phase"] == "weights"
        assert 0 < loading["fraction"] < 1
        assert 0 < loading["phase_seconds"] <= loading["seconds"]
        assert loading["seconds_since_sign"] <= loading["seconds"]
        told = re.compile(
            r"The engine is starting\. The weights are read \(\d+%\), for \d+ s now\."
        )
        assert health["state"] == "starting"
        reasons = [health["reason"], server.http.get("/health/ready").json()["reason"]]
        reasons.append(server.chat().json()["error"]["message"])
        assert all(told.fullmatch(reason) for reason in reasons)
        assert server.metric("engine_loading_seconds") > 0
        assert server.metric("engine_loading_silent_seconds") >= 0


def test_nothing_loads_once_the_engine_is_ready(server):
    assert server.http.get("/health").json()["loading"] is None
    assert server.metric("engine_loading_seconds") == 0
    assert server.metric("engine_loading_silent_seconds") == 0


def test_an_engine_that_dies_for_good():
    """A running stream ends with an error event, a waiting answer with a 500, the next with 503."""
    settings = scripted_settings(engine={"max_restarts": 0}, step_ms=20)
    others = set(psutil.Process().children())
    with running_server(settings) as server, ThreadPoolExecutor(2) as pool:
        (engine,) = set(psutil.Process().children()) - others
        whole = pool.submit(server.chat, max_tokens=30_000)
        stream = pool.submit(server.chat, max_tokens=30_000, stream=True)
        wait_for(lambda: server.health()["stats"]["num_running"] == 2)
        wait_for(lambda: server.metric("time_to_first_token_seconds_count") == 2)
        engine.kill()

        check_error(whole.result(), 500, None, "engine_error")
        events = parse_events(stream.result().text)
        assert events[-1]["error"]["code"] == "engine_error"
        check_error(server.chat(), 503, None, "engine_unavailable")
        assert server.http.get("/health").status_code == 503
        assert server.http.get("/health/live").status_code == 200
