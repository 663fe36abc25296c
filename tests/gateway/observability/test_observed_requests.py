"""Counters, log lines and usage of the same requests: all three say the same."""

import random
import time
from collections.abc import Iterator, MutableMapping
from typing import Any

import httpx
import psutil
import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from gateway.observability.access_log import PROBES
from gateway.settings.schema import LogSettings
from tests.kit.chat.answers import CHAT, TEXT
from tests.kit.root import ROOT
from tests.kit.serving import (
    MODEL,
    RunningServer,
    parse_events,
    running_server,
    scripted_settings,
    server_of,
)
from tests.kit.serving import wait_for as wait_until

USAGE = {"include_usage": True, "continuous_usage_stats": True}
COUNTERS = ("prompt_tokens_total", "generation_tokens_total", "prompt_tokens_cached_total")
FIELDS = ("prompt_tokens", "completion_tokens", "cached_tokens")

Line = MutableMapping[str, Any]


server = server_of(scripted_settings(num_tokens=40, step_ms=1, engine={"max_num_seqs": 4}))


@pytest.fixture
def lines() -> Iterator[list[Line]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


def requests_in(lines: list[Line]) -> list[Line]:
    return [line for line in lines if line["event"] == "request" and "outcome" in line]


def numbers(usage: dict[str, Any]) -> tuple[int, ...]:
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return usage["prompt_tokens"], usage["completion_tokens"], cached


class Caller:
    """Sends requests of every kind, and keeps what each answer said about its usage."""

    def __init__(self, server: RunningServer, seed: int) -> None:
        self._server = server
        self._random = random.Random(seed)
        self.usages: dict[str, tuple[int, ...]] = {}
        self.seen: dict[str, int] = {}

    def send(self) -> None:
        self._random.choice([self.whole, self.stream, self.text, self.left, self.refused])()

    def whole(self) -> None:
        response = self._server.chat("a" * self._int(50), max_tokens=self._int(60), n=self._int(4))
        self._keep(response, response.json()["usage"])

    def stream(self) -> None:
        body = self._body() | {"stream": True, "stream_options": {"include_usage": True}}
        response = self._server.post(CHAT, **body)
        self._keep(response, parse_events(response.text)[-1]["usage"])

    def text(self) -> None:
        prompts = ["b" * self._int(9) for _ in range(self._int(2))]
        best_of = self._int(2)
        response = self._server.post(TEXT, prompt=prompts, max_tokens=9, n=1, best_of=best_of)
        self._keep(response, response.json()["usage"])

    def left(self) -> None:
        """Reads some chunks and goes away."""
        body = self._body() | {"stream": True, "stream_options": USAGE, "ignore_eos": True}
        body |= {"model": MODEL, "max_tokens": 10_000}
        wanted, seen = self._int(5), 0
        with self._server.http.stream("POST", CHAT, json=body) as response:
            for line in response.iter_lines():
                if '"completion_tokens":' in line:
                    (chunk,) = parse_events(line + "\n\ndata: [DONE]\n\n")
                    seen = chunk["usage"]["completion_tokens"]
                    wanted -= 1
                if not wanted:
                    break
        self.seen[response.headers["x-request-id"]] = seen

    def refused(self) -> None:
        assert self._server.chat(n=0).status_code == 400
        assert self._server.post(CHAT, messages=[], model="nobody").status_code in (400, 404)

    def _body(self) -> dict[str, Any]:
        content = "c" * self._int(30)
        return {"messages": [{"role": "user", "content": content}], "max_tokens": self._int(50)}

    def _int(self, most: int) -> int:
        return self._random.randint(1, most)

    def _keep(self, response: httpx.Response, usage: dict[str, Any]) -> None:
        assert response.status_code == 200, response.text
        self.usages[response.headers["x-request-id"]] = numbers(usage)


def counters(server: RunningServer) -> tuple[float, ...]:
    return tuple(server.metric(name) for name in COUNTERS)


@pytest.mark.parametrize("seed", range(3))
def test_counters_log_lines_and_usage_are_equal(server, lines, seed):
    """Whole answers, streams, several choices and prompts, clients that leave, and refusals."""
    before, aborted = counters(server), server.metric("requests_aborted_total")
    caller = Caller(server, seed)
    for _ in range(15):
        caller.send()
    num_answers = len(caller.usages) + len(caller.seen)
    wait_until(lambda: len(requests_in(lines)) == num_answers)

    logged = {
        line["request_id"]: tuple(line[name] for name in FIELDS) for line in requests_in(lines)
    }
    difference = tuple(b - a for a, b in zip(before, counters(server), strict=True))
    assert difference == tuple(map(sum, zip(*logged.values(), strict=True)))
    assert {key: logged[key] for key in caller.usages} == caller.usages
    for key, seen in caller.seen.items():
        assert logged[key][1] >= seen > 0
    assert server.metric("requests_aborted_total") - aborted == len(caller.seen)


def test_an_answer_that_an_error_ends_counts_what_had_come(lines):
    settings = scripted_settings(step_ms=5, engine={"max_restarts": 0})
    with running_server(settings) as server:
        body = {"model": MODEL, "prompt": "abc", "max_tokens": 10_000, "stream": True}
        with server.http.stream("POST", TEXT, json=body | {"stream_options": USAGE}) as response:
            chunks = response.iter_lines()
            while '"completion_tokens":5' not in next(chunks):
                continue
            psutil.Process(server.health()["engine"]["pid"]).kill()
            rest = list(chunks)
        assert any('"code":"engine_error"' in line for line in rest)
        wait_until(lambda: len(requests_in(lines)) == 1)
        [line] = requests_in(lines)

        assert line["outcome"] == "failed"
        assert line["error"] == "engine_error"
        num_tokens = 4  # of the prompt, with its beginning
        assert line["prompt_tokens"] == server.metric("prompt_tokens_total") == num_tokens
        assert line["completion_tokens"] == server.metric("generation_tokens_total") >= 5
        assert server.metric("requests_failed_total") == 1
        assert server.metric(f'http_requests_total{{endpoint="{TEXT}",error="engine_error"}}') == 1
        assert server.metric('engine_state{state="failed"}') == 1


def test_a_line_says_how_long_and_how_much_and_nothing_private(server, lines):
    secret = "my mother's maiden name"
    response = server.chat(secret, max_tokens=7, user="someone")
    wait_until(lambda: bool(requests_in(lines)))

    [line] = requests_in(lines)
    assert line["request_id"] == response.headers["x-request-id"]
    assert (line["method"], line["endpoint"], line["status"]) == ("POST", CHAT, 200)
    assert (line["model"], line["outcome"], line["log_level"]) == (MODEL, "completed", "info")
    assert line["completion_tokens"] == 7
    assert line["finish_reasons"] == ["length"]
    assert 0 <= line["queue_ms"] <= line["ttft_ms"] <= line["duration_ms"] + 0.1
    # six more steps of a millisecond, though a busy machine hands over several at once
    assert 0 < line["decode_ms"] <= line["duration_ms"]
    answer = response.json()["choices"][0]["message"]["content"]
    assert not any(text in repr(line) for text in (secret, answer, "someone"))


def test_probes_are_for_debugging_and_errors_have_their_code(server, lines):
    server.http.get("/health/live")
    server.http.get("/metrics")
    server.chat(n=0)
    wait_until(lambda: len([line for line in lines if line["event"] == "request"]) == 3)

    levels = {line["endpoint"]: line["log_level"] for line in lines if line["event"] == "request"}
    assert levels == {"/health/live": "debug", "/metrics": "debug", CHAT: "info"}
    [refused] = [line for line in lines if line.get("status") == 400]
    assert refused["error"] == "invalid_value"


def test_requests_to_the_model_are_no_new_series():
    """Routes have the same names before their first request and after it."""
    page = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    with running_server(scripted_settings()) as server:
        before = http_series(server)
        assert f"That is {len(before)} of `http_requests`" in page

        assert server.chat(max_tokens=1).status_code == 200
        assert server.post(TEXT, prompt="a", max_tokens=1).status_code == 200
        assert http_series(server) == before
        assert server.http.get("/v1/models/none").status_code == 404
        [new] = [labels for labels in http_series(server) if labels not in before]
        assert {**new, "status": "500", "error": "internal_error"} in before


def http_series(server: RunningServer) -> list[dict[str, str]]:
    """Labels of `http_requests`, but for those of the probes that this test itself sends."""
    return [
        sample.labels
        for family in text_string_to_metric_families(server.http.get("/metrics").text)
        for sample in family.samples
        if sample.name == "lockgate_http_requests_total"
        if sample.labels["error"] or sample.labels["endpoint"] not in PROBES
    ]


def test_the_access_log_can_be_off(lines):
    settings = scripted_settings()
    settings = type(settings)(
        model=settings.model, engine=settings.engine, log=LogSettings(access=False)
    )
    with running_server(settings) as server:
        assert server.chat(max_tokens=1).status_code == 200
    assert [line for line in lines if line["event"] == "request"] == []


def test_processes_and_steps_of_a_running_server(server):
    server.chat(max_tokens=30)
    assert server.metric('process_resident_memory_bytes{process="gateway"}') > 10e6
    assert server.metric('process_resident_memory_bytes{process="engine"}') > 10e6
    assert server.metric('process_cpu_seconds_total{process="engine"}') > 0
    assert server.metric("engine_step_seconds_count") >= 30
    assert server.metric("request_queue_time_seconds_count") >= 1
    labels = f'endpoint="{CHAT}",model_name="{MODEL}",status="200"'
    assert server.metric(f"http_requests_total{{{labels}}}") >= 1
    started = time.monotonic()
    server.http.get("/metrics")
    assert time.monotonic() - started < 5
