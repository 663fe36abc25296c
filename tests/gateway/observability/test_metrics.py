"""Metrics: what is observed is what is shown."""

import os
from typing import get_args

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.chat.finish import FinishReason
from gateway.observability.answer_record import AnswerRecord
from gateway.observability.metrics.bounded_names import BoundedNames
from gateway.observability.metrics.processes import own_usage, usage_of_tree
from gateway.observability.metrics.server import EARLY_RESULTS, RESULTS, Metrics
from runtime.client.engine_client import EngineClient
from runtime.messages.engine import EngineStats, EngineUsage
from runtime.messages.wire import StepOutput
from tests.kit.chat.answers import CHAT
from tests.kit.engines import READY, a_request
from tests.kit.shown_metrics import OPERATIONS, Shown, exchange_of, new_metrics, text_of


def test_responses_are_counted_and_refusals_by_their_code():
    metrics = Metrics()
    for status, error in (
        (429, "engine_overloaded"),
        (400, "invalid_value"),
        (503, "deadline_exceeded"),
        (429, "rate_limit_exceeded"),
        (503, None),
        (0, None),
    ):
        metrics.on_response(exchange_of(status=status, error=error), CHAT, 0.5)

    shown = Shown(text_of(metrics))
    assert shown("requests_rejected_total", reason="engine_overloaded") == 1
    assert shown("requests_rejected_total", reason="deadline_exceeded") == 1
    assert shown("requests_rejected_total", reason="rate_limit_exceeded") == 1
    assert shown("requests_rejected_total", reason="gpu_memory_pressure") == 0
    assert shown("http_requests_total", endpoint=CHAT, status="429", error="engine_overloaded") == 1
    assert shown("http_requests_total", endpoint=CHAT, status="499", error="") == 1


def test_what_can_become_of_a_request_begins_at_zero():
    """For each route that the engine works for; what a request adds then is no new series."""
    metrics = new_metrics()
    text = text_of(metrics)
    shown = Shown(text)
    for endpoint in OPERATIONS:
        for status, error in RESULTS:
            labels = {"endpoint": endpoint, "status": str(status), "error": error}
            assert shown("http_requests_total", **labels) == 0
        assert (500, "internal_error") in RESULTS
        at = {"endpoint": endpoint, "model_name": "", "status": "500", "error": "internal_error"}
        assert shown("http_requests_total", **at) == 0
    for reason in get_args(FinishReason):
        assert shown("request_success_total", finished_reason=reason) == 0

    num_series = len(metrics.http_requests)
    assert num_series == len(OPERATIONS) * (len(RESULTS) + len(EARLY_RESULTS))
    for status, error in RESULTS:
        metrics.on_response(exchange_of(status=status, error=error or None), CHAT, 0.1)
    assert len(metrics.http_requests) == num_series


def test_genai_metrics_have_the_names_and_labels_of_the_conventions():
    metrics = new_metrics()
    good, bad, gone = (
        exchange_of(),
        exchange_of(status=503, error="engine_unavailable"),
        exchange_of(),
    )
    good.started -= 3
    good.answer = AnswerRecord(1)
    good.answer.first_token, good.answer.ended = good.started + 1, good.started + 3
    good.answer.completion_tokens, good.answer.outcome = 5, "completed"
    gone.answer = AnswerRecord(1)
    gone.answer.outcome = "aborted"
    for request_record in (good, bad, gone):
        metrics.on_response(request_record, CHAT, 3.0)
    metrics.on_response(exchange_of(), "/health", 3.0)

    labels = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "lockgate",
        "gen_ai_request_model": "m",
        "gen_ai_response_model": "m",
    }
    found = {
        (name.removeprefix("gen_ai_server_"), of_sample.get("error_type")): value
        for name, of_sample, value in Shown(text_of(metrics)).samples
        if name.startswith("gen_ai_server_") and name.endswith("_sum")
        if labels.items() <= of_sample.items()
    }
    assert found == {
        ("request_duration_seconds_sum", ""): 3,
        ("request_duration_seconds_sum", "engine_unavailable"): 3,
        ("request_duration_seconds_sum", "client_disconnected"): 3,
        ("time_to_first_token_seconds_sum", None): 1,
        ("time_per_output_token_seconds_sum", None): 0.5,
    }


def test_gauges_show_the_last_step():
    client = EngineClient()
    stats = EngineStats(
        num_waiting=5,
        num_waiting_preempted=2,
        num_preparing=3,
        usage=EngineUsage(
            kv_cache_usage=0.25, prefix_cache_usage=0.5, num_compiling=2, num_to_compile=7
        ),
    )
    client.receive(StepOutput([], stats))

    shown = Shown(text_of(Metrics(), client))
    assert shown("kv_cache_usage_perc") == 0.25
    assert shown("prefix_cache_usage_perc") == 0.5
    assert shown("num_requests_waiting") == 8
    assert shown("num_requests_waiting_by_reason", reason="capacity") == 3
    assert shown("num_requests_waiting_by_reason", reason="preempted") == 2
    assert shown("num_requests_waiting_by_reason", reason="grammar") == 3
    assert shown("num_grammars", state="compiling") == 2
    assert shown("num_grammars", state="waiting") == 7


def test_an_engine_that_is_lost_and_comes_back():
    client = EngineClient()
    client.connected(lambda _: None, READY)
    client.submit([a_request("a")])
    client.lost("restarting", "it died")
    lost = Shown(text_of(Metrics(), client))
    client.connected(lambda _: None, READY)
    back = Shown(text_of(Metrics(), client))

    assert (lost("engine_ready"), back("engine_ready")) == (0, 1)
    assert (lost("engine_state", state="restarting"), back("engine_state", state="ready")) == (1, 1)
    assert (lost("engine_restarts_total"), back("engine_restarts_total")) == (1, 1)
    assert lost("requests_resumed_total", reason="engine_restarted") == 0
    assert back("requests_resumed_total", reason="engine_restarted") == 1
    assert back("max_num_seqs") == 4
    assert back("max_num_waiting") == 6
    assert back("kv_cache_tokens") == 256
    assert back("engine_info", engine="none", version="0", device="none") == 1


def test_labels_that_clients_can_make_up_are_bounded():
    metrics = new_metrics(max_keys=2)
    for number in range(200):
        request_record = exchange_of(model_name="", status=400, error=f"code_{number}")
        request_record.key_name = f"key_{number}"
        request_record.answer = AnswerRecord(1)
        request_record.answer.prompt_tokens, request_record.answer.completion_tokens = 3, 5
        metrics.on_response(request_record, "unknown", 0.0)

    shown = Shown(text_of(metrics))
    of_unknown = [labels for labels in metrics.http_requests if labels.endpoint == "unknown"]
    assert 60 < len(of_unknown) <= 65
    assert shown("key_requests_total", key="key_1") == 1
    assert shown("key_requests_total", key="other") == 198
    assert shown("key_prompt_tokens_total", key="other") == 198 * 3
    assert shown("key_generation_tokens_total", key="other") == 198 * 5


def test_nothing_is_kept_by_key_unless_it_is_wanted():
    metrics = Metrics()
    request_record = exchange_of()
    request_record.key_name = "alice"
    metrics.on_response(request_record, CHAT, 0.0)
    assert "alice" not in text_of(metrics)


@given(st.lists(st.text(max_size=3)), st.integers(0, 5))
def test_bounded_names(names, limit):
    bounded = BoundedNames(limit)
    told = [bounded.name(name) for name in names]
    kept = list(dict.fromkeys(names))[:limit]
    assert told == [name if name in kept else "other" for name in names]


def test_process_usage_is_that_of_the_process():
    usage = usage_of_tree(os.getpid())
    assert usage is not None
    assert usage.memory_bytes >= 10e6
    assert own_usage().cpu_seconds == pytest.approx(sum(psutil.Process().cpu_times()[:2]), abs=1)


def test_a_process_that_is_gone_uses_nothing():
    with psutil.Popen(["true"]) as process:
        pass
    assert usage_of_tree(process.pid) is None
