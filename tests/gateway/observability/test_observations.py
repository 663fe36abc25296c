"""What is observed of answers and of engines is what is shown."""

import collections
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.generation.assembler import Assembler
from gateway.generation.timeline import Timeline
from gateway.observability.metrics.counter import Counter, LabelledCounter
from gateway.observability.metrics.exposition import render
from gateway.observability.metrics.histogram import Histogram
from gateway.observability.metrics.instrument import InstrumentGroup
from gateway.observability.metrics.server import Metrics
from runtime.client.engine_client import EngineClient
from runtime.hardware.gpu_monitor import GpuMonitor
from runtime.messages.engine import DiskUsage, EngineStats, EngineUsage
from runtime.messages.request import RequestOutput
from runtime.messages.wire import StepOutput
from tests.kit.shown_metrics import BOUNDS, Shown, text_of


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 9.0]), st.integers(1, 3))))
def test_histogram(observations):
    """Buckets are cumulative and include their bound."""
    histogram = Histogram("sizes", "Sizes.", [1.0, 2.0])
    for value, times in observations:
        histogram.observe(value, times)

    values = [value for value, times in observations for _ in range(times)]
    assert dict(histogram.cumulative()) == {
        "1.0": sum(value <= 1 for value in values),
        "2.0": sum(value <= 2 for value in values),
        "+Inf": len(values),
    }
    assert histogram.sum == sum(values)
    assert histogram.count == len(values)


def test_timeline_counts_every_token_once():
    """One first token per answer; each token of a choice but its first is one gap, however deltas
    were merged."""
    metrics = Metrics()
    assembler = Assembler(["a", "b"], [3])
    timeline = Timeline(metrics.of("m"), 0.0, assembler)
    for outputs in (
        [RequestOutput("a", [], "")],
        [RequestOutput("a", [1], "x"), RequestOutput("b", [1], "x")],
        [RequestOutput("a", [1, 2, 3], "xyz")],
        [RequestOutput("a", [1], "x", "stop"), RequestOutput("b", [1, 2], "xy", "length")],
    ):
        assembler.push(outputs)
        timeline.delta(len(outputs))
    timeline.finish()
    timeline.abort()  # the first end counts

    shown = Shown(text_of(metrics))
    assert shown("time_to_first_token_seconds_count") == 1
    assert shown("inter_token_latency_seconds_count") == 6
    assert shown("e2e_request_latency_seconds_count") == 1
    assert shown("request_time_per_output_token_seconds_count") == 1
    assert shown("generation_tokens_total") == 8
    assert shown("request_generation_tokens_sum") == 8
    assert shown("prompt_tokens_total") == 3
    assert shown("request_prompt_tokens_sum") == 3
    assert shown("request_success_total", finished_reason="stop") == 1
    assert shown("request_success_total", finished_reason="length") == 1
    assert shown("requests_aborted_total") == 0
    assert timeline.record.outcome == "completed"


def test_phases_are_between_the_times_that_were_told():
    metrics = Metrics()
    started = time.monotonic() - 10
    assembler = Assembler(["a"], [3])
    timeline = Timeline(metrics.of("m"), started, assembler)
    assembler.push([RequestOutput("a", [1], "x", seconds_queued=4.0)])
    timeline.delta(1)
    assembler.push([RequestOutput("a", [1], "x", "stop")])
    timeline.delta(1)
    timeline.finish()

    shown = Shown(text_of(metrics))
    assert shown("request_queue_time_seconds_sum") == pytest.approx(4)
    assert shown("request_prefill_time_seconds_sum") == pytest.approx(6, abs=1)
    assert shown("request_inference_time_seconds_sum") == pytest.approx(6, abs=1)
    assert shown("request_decode_time_seconds_sum") == pytest.approx(0, abs=1)
    assert shown("time_to_first_token_seconds_sum") == pytest.approx(10, abs=1)


DELTAS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(0, 3), st.integers(0, 9)), max_size=20
)


@given(DELTAS, st.sampled_from(["abort", "fail", "finish"]))
def test_what_is_counted_is_what_had_come(deltas, end):
    """Four choices of two prompts; the answer ends at any point, in any way."""
    metrics = Metrics()
    assembler = Assembler(["a", "b", "c", "d"], [5, 7])
    num_tokens, begun, cached = 0, set(), {}
    of_choice: collections.Counter[str] = collections.Counter()
    counted = metrics.of("m")
    timeline = Timeline(counted, 0.0, assembler)
    for request_id, count, num_cached in deltas:
        assembler.push([RequestOutput(request_id, [1] * count, "", None, None, num_cached)])
        timeline.delta(1)
        num_tokens += count
        of_choice[request_id] += count
        begun.add(request_id in "cd")
        cached[request_id] = max(cached.get(request_id, 0), num_cached)
    if end == "finish":
        for request_id in "abcd":
            assembler.push([RequestOutput(request_id, [], "", "stop")])
        timeline.delta(4)
        begun = {False, True}
    {"abort": timeline.abort, "fail": timeline.fail, "finish": timeline.finish}[end]()

    answer = timeline.record
    assert counted.generation_tokens.value == answer.completion_tokens == num_tokens
    gaps = sum(max(count - 1, 0) for count in of_choice.values())
    assert counted.inter_token_latency.count == gaps
    assert (
        counted.prompt_tokens.value
        == answer.prompt_tokens
        == 5 * (False in begun) + 7 * (True in begun)
    )
    assert counted.cached_tokens.value == min(cached.get("a", 0), 5) + min(cached.get("c", 0), 7)
    outcomes = {
        "abort": counted.aborted.value,
        "fail": counted.failed.value,
        "finish": counted.e2e_latency.count,
    }
    assert outcomes == {**dict.fromkeys(outcomes, 0), end: 1}
    if end == "finish":
        assert assembler.usage.prompt_tokens == counted.prompt_tokens.value
        assert assembler.usage.completion_tokens == counted.generation_tokens.value
        assert assembler.usage.prompt_tokens_details.cached_tokens == counted.cached_tokens.value


def test_engine_steps():
    metrics = Metrics()
    usage = EngineUsage(
        num_prompt_tokens=5,
        num_generation_tokens=2,
        num_preempted=1,
        num_cached_tokens=30,
        num_draft_tokens=4,
        num_accepted_tokens=3,
    )
    stats = EngineStats(step_seconds=0.003, num_resumed=1, usage=usage)
    outputs = [RequestOutput("a", [1], ""), RequestOutput("b", [1], "")]
    for step in (
        StepOutput(outputs, stats, [0.5]),
        StepOutput(outputs, stats),
        StepOutput([], EngineStats()),
    ):
        metrics.of("m").engine.on_step(step)

    shown = Shown(text_of(metrics))
    assert shown("engine_prompt_tokens_total") == 10
    assert shown("engine_generation_tokens_total") == 4
    assert shown("num_preemptions_total") == 2
    assert shown("requests_resumed_total", reason="preempted") == 2
    assert shown("prefix_cache_queries_total") == 70
    assert shown("prefix_cache_hits_total") == 60
    assert shown("spec_decode_num_draft_tokens_total") == 8
    assert shown("spec_decode_num_accepted_tokens_total") == 6
    assert shown("engine_step_seconds_count") == 2  # a heartbeat is no step
    assert shown("engine_step_seconds_bucket", le="0.005") == 2
    assert shown("iteration_tokens_total_sum") == 14
    assert shown("engine_batch_size_sum") == 4
    assert shown("grammar_compilation_time_seconds_sum") == 0.5


@pytest.mark.parametrize(
    "reported",
    [{name: 1} for name in EngineUsage.__struct_fields__ if name != "disk"]
    + [{"disk": DiskUsage(**{name: 1})} for name in DiskUsage.__struct_fields__],
    ids=repr,
)
def test_every_number_of_an_engine_is_exported(reported):
    """As a sum over the steps, or as the state after the last one."""

    def exported(usage: EngineUsage) -> str:
        metrics, client = Metrics(), EngineClient()
        step = StepOutput([], EngineStats(usage=usage))
        metrics.of("m").engine.on_step(step)
        client.receive(step)
        return render(metrics, {"m": client}, GpuMonitor(interval=1), {}, BOUNDS).decode()

    assert exported(EngineUsage(**reported)) != exported(EngineUsage())


class Naps(InstrumentGroup):
    def __init__(self) -> None:
        self.naps = Counter("lockgate_naps", "Naps taken.")
        self.nap_seconds = Histogram("lockgate_nap_seconds", "Length of a nap.")
        self.beds: LabelledCounter[str] = LabelledCounter(
            "lockgate_beds", "Beds slept in.", ("model_name", "bed"), ["soft"]
        )


def test_a_metric_that_is_declared_and_held_is_exported_without_a_further_step():
    metrics = Metrics()
    naps = metrics.of("m").naps = Naps()  # type: ignore[attr-defined]
    visitors: LabelledCounter[str] = LabelledCounter("lockgate_visitors", "Who came.", ("animal",))
    metrics.visitors = visitors  # type: ignore[attr-defined]
    naps.naps.value += 3
    naps.nap_seconds.observe(0.3, 2)
    naps.beds["hard"] += 1
    visitors["bear"] += 2

    text = text_of(metrics)
    shown = Shown(text)
    assert shown("naps_total") == 3
    assert shown("nap_seconds_count") == 2
    assert (shown("beds_total", bed="soft"), shown("beds_total", bed="hard")) == (0, 1)
    assert shown("visitors_total", animal="bear") == 2
    assert "# HELP lockgate_naps_total Naps taken.\n# TYPE lockgate_naps_total counter\n" in text
