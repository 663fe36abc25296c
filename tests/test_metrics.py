"""Metrics: what is observed is what is shown."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gateway.assembler import Assembler
from gateway.metrics import Histogram, Metrics, Timeline, render
from runtime import EngineClient, EngineStats, RequestOutput, StepOutput


def samples(
    metrics: Metrics, client: EngineClient | None = None
) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = render(metrics, client or EngineClient(), "m").decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 9.0]), st.integers(1, 3))))
def test_histogram(observations):
    """Buckets are cumulative and include their bound."""
    histogram = Histogram([1.0, 2.0])
    for value, times in observations:
        histogram.observe(value, times)

    family = histogram.family("h", "")
    buckets = {s.labels["le"]: s.value for s in family.samples if s.name.endswith("_bucket")}
    values = [value for value, times in observations for _ in range(times)]
    assert buckets == {
        "1.0": sum(value <= 1 for value in values),
        "2.0": sum(value <= 2 for value in values),
        "+Inf": len(values),
    }
    assert {s.name: s.value for s in family.samples}["lockgate:h_sum"] == sum(values)


def test_timeline_counts_every_token_once():
    """One first token per answer; each later token is one gap, however deltas were merged."""
    metrics = Metrics()
    assembler = Assembler(["a", "b"], [3])
    timeline = Timeline(metrics, 0.0, assembler)
    for outputs in (
        [RequestOutput("a", [], "")],
        [RequestOutput("a", [1], "x"), RequestOutput("b", [1], "x")],
        [RequestOutput("a", [1, 2, 3], "xyz")],
        [RequestOutput("a", [1], "x", "stop"), RequestOutput("b", [1, 2], "xy", "length")],
    ):
        assembler.push(outputs)
        timeline.delta(len(outputs))
    timeline.finish()

    shown = samples(metrics)
    assert shown["lockgate:time_to_first_token_seconds_count", ()] == 1
    assert shown["lockgate:inter_token_latency_seconds_count", ()] == 6
    assert shown["lockgate:e2e_request_latency_seconds_count", ()] == 1
    assert shown["lockgate:generation_tokens_total", ()] == 8
    assert shown["lockgate:prompt_tokens_total", ()] == 3
    assert shown["lockgate:request_success_total", (("finished_reason", "stop"),)] == 1
    assert shown["lockgate:request_success_total", (("finished_reason", "length"),)] == 1


def test_engine_steps_and_responses():
    metrics = Metrics()
    stats = EngineStats(
        num_prompt_tokens=5, num_generation_tokens=2, num_preempted=1, num_cached_tokens=30
    )
    metrics.on_engine_event(StepOutput([], stats))
    metrics.on_engine_event(StepOutput([], stats))
    metrics.on_response("/v1/completions", 429, "engine_overloaded")
    metrics.on_response("/v1/completions", 400, "invalid_value")
    metrics.on_response("/v1/completions", 503, "deadline_exceeded")

    shown = samples(metrics)
    assert shown["lockgate:engine_prompt_tokens_total", ()] == 10
    assert shown["lockgate:engine_generation_tokens_total", ()] == 4
    assert shown["lockgate:num_preemptions_total", ()] == 2
    assert shown["lockgate:prefix_cache_queries_total", ()] == 70
    assert shown["lockgate:prefix_cache_hits_total", ()] == 60
    assert shown["lockgate:requests_rejected_total", (("reason", "engine_overloaded"),)] == 1
    assert shown["lockgate:requests_rejected_total", (("reason", "deadline_exceeded"),)] == 1
    endpoint = ("endpoint", "/v1/completions")
    assert shown["lockgate:http_requests_total", (endpoint, ("status", "429"))] == 1


def test_gauges_show_the_last_step():
    client = EngineClient()
    client.receive(StepOutput([], EngineStats(kv_cache_usage=0.25, prefix_cache_usage=0.5)))

    shown = samples(Metrics(), client)
    assert shown["lockgate:kv_cache_usage_perc", ()] == 0.25
    assert shown["lockgate:prefix_cache_usage_perc", ()] == 0.5
