"""Metrics: what is observed is what is shown."""

import pynvml
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gateway.assembler import Assembler
from gateway.metrics import Histogram, Metrics, Timeline, render
from runtime import EngineClient, EngineStats, GpuMonitor, GpuReader, RequestOutput, StepOutput
from tests.fake_nvml import FakeGpu, FakeNvml


def samples(
    metrics: Metrics,
    client: EngineClient | None = None,
    monitor: GpuMonitor | None = None,
) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    monitor = monitor or GpuMonitor(interval=1)
    text = render(metrics, client or EngineClient(), "m", monitor).decode()
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


def gpu_samples(*gpus: FakeGpu, nvml: FakeNvml | None = None, min_free_bytes: int = 0):
    nvml = nvml or FakeNvml(gpus)
    monitor = GpuMonitor(interval=60, min_free_bytes=min_free_bytes)
    reader = GpuReader(nvml)
    monitor.update(reader.read())
    for gpu in gpus:
        nvml.xid(gpu, 13)
    monitor.update(reader.read())
    found = samples(Metrics(), monitor=monitor)
    prefix = "lockgate:gpu_"
    return {
        (name.removeprefix(prefix), *(value for _, value in labels)): value
        for (name, labels), value in found.items()
        if name.startswith(prefix)
    }


def test_gpus_are_shown_in_base_units():
    found = gpu_samples(FakeGpu(uuid="GPU-1"), min_free_bytes=5 << 30)
    gib = 1 << 30
    for key, value in {
        ("monitor_up",): 1,
        ("memory_pressure",): 1,
        ("info", "0", "NVIDIA GeForce RTX 4070", "GPU-1"): 1,
        ("memory_total_bytes", "0"): 12 * gib,
        ("memory_used_bytes", "0"): 8 * gib,
        ("memory_free_bytes", "0"): 4 * gib,
        ("utilization_perc", "0"): 0.8,
        ("memory_utilization_perc", "0"): 0.4,
        ("temperature_celsius", "0"): 65,
        ("power_watts", "0"): 180.5,
        ("power_limit_watts", "0"): 200,
        ("clock_sm_hertz", "0"): 2475e6,
        ("clock_memory_hertz", "0"): 10_501e6,
        ("lost", "0"): 0,
        ("throttled", "0", "sw_power_cap"): 1,
        ("throttled", "0", "hw_slowdown"): 0,
        ("ecc_errors_total", "0", "corrected"): 3,
        ("ecc_errors_total", "0", "uncorrected"): 1,
        ("xid_errors_total", "0", "13"): 1,
    }.items():
        assert found[key] == value, key


def test_what_a_driver_does_not_tell_is_left_out():
    nvml = FakeNvml([FakeGpu()])
    nvml.fail("nvmlDeviceGetPowerUsage", pynvml.NVMLError_NotSupported)
    nvml.fail("nvmlDeviceGetTotalEccErrors", pynvml.NVMLError_NotSupported)
    found = gpu_samples(nvml=nvml)
    assert not [key for key in found if key[0] in ("power_watts", "ecc_errors_total")]
    assert ("power_limit_watts", "0") in found


def test_a_lost_gpu_is_one_that_shows_nothing_else():
    gpu = FakeGpu()
    nvml = FakeNvml([gpu])
    nvml.fail("nvmlDeviceGetHandleByIndex", pynvml.NVMLError_GpuIsLost)
    found = gpu_samples(nvml=nvml)
    assert found["lost", "0"] == 1
    assert not [key for key in found if key[0].startswith("memory_") and len(key) > 1]


def test_without_a_driver_the_gpus_are_absent_and_the_text_is_whole():
    nvml = FakeNvml()
    nvml.fail("nvmlInit", pynvml.NVMLError_LibraryNotFound)
    assert gpu_samples(nvml=nvml) == {("monitor_up",): 0, ("memory_pressure",): 0}
