"""Metrics: what is observed is what is shown, and what is shown is what the documents say."""

import collections
import os
import re
import time
from collections.abc import Mapping
from typing import get_args

import psutil
import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gateway.app import ROUTES
from gateway.bounds.bounds import Bounds
from gateway.chat.finish import FinishReason
from gateway.generation.assembler import Assembler
from gateway.generation.timeline import Timeline
from gateway.http.route_facts import operations_of
from gateway.observability.answer_record import AnswerRecord
from gateway.observability.metrics.bounded_names import BoundedNames
from gateway.observability.metrics.counter import Counter, LabelledCounter
from gateway.observability.metrics.exposition import FAMILIES, render
from gateway.observability.metrics.histogram import Histogram
from gateway.observability.metrics.instrument import InstrumentGroup
from gateway.observability.metrics.processes import own_usage, usage_of_tree
from gateway.observability.metrics.server import EARLY_RESULTS, RESULTS, Metrics
from gateway.observability.request_record import RequestRecord
from gateway.settings.schema import ServerSettings
from runtime.client.engine_client import EngineClient
from runtime.hardware.gpu_monitor import GpuMonitor
from runtime.hardware.nvml import GpuReader
from runtime.messages.engine import EngineStats, EngineUsage
from runtime.messages.request import RequestOutput
from runtime.messages.wire import StepOutput
from tests.kit.chat.answers import CHAT
from tests.kit.engines import READY, a_request
from tests.kit.fake_nvml import FakeGpu, FakeNvml
from tests.kit.root import ROOT

BOUNDS = Bounds.of(ServerSettings())


def text_of(
    metrics: Metrics, client: EngineClient | None = None, monitor: GpuMonitor | None = None
) -> str:
    monitor = monitor or GpuMonitor(interval=1)
    processes = {"gateway": own_usage()}
    return render(metrics, {"m": client or EngineClient()}, monitor, processes, BOUNDS).decode()


class Shown:
    """Samples by name and labels; `model_name="m"` goes without saying."""

    def __init__(self, text: str) -> None:
        self.samples = [
            (sample.name, sample.labels, sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        ]

    def __call__(self, name: str, **labels: str) -> float:
        found = [
            value
            for sample_name, of_sample, value in self.samples
            if sample_name == f"lockgate_{name}"
            and {k: v for k, v in of_sample.items() if (k, v) != ("model_name", "m")} == labels
        ]
        assert len(found) == 1, f"{name}{labels}: {found}"
        return found[0]


OPERATIONS = operations_of(ROUTES)


def new_metrics(max_keys: int = 0) -> Metrics:
    """The counters of a server with all routes."""
    return Metrics(max_keys, operations=OPERATIONS)


def exchange_of(
    model_name: str = "m", status: int = 200, error: str | None = None
) -> RequestRecord:
    request_record = RequestRecord([])
    request_record.model_name = model_name
    request_record.status = status
    request_record.error_code = error
    return request_record


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


@pytest.mark.parametrize("name", EngineUsage.__struct_fields__)
def test_every_number_of_an_engine_is_exported(name):
    """As a sum over the steps, or as the state after the last one."""

    def exported(usage: EngineUsage) -> str:
        metrics, client = Metrics(), EngineClient()
        step = StepOutput([], EngineStats(usage=usage))
        metrics.of("m").engine.on_step(step)
        client.receive(step)
        return render(metrics, {"m": client}, GpuMonitor(interval=1), {}, BOUNDS).decode()

    assert exported(EngineUsage(**{name: 1})) != exported(EngineUsage())


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


DOCUMENT = ROOT / "docs" / "metrics.md"
ROW = re.compile(
    r"^\| `(?P<name>[a-z0-9_]+)` \| (?P<kind>\w+) \| (?P<labels>[^|]*) \| [^|]+ \|$", re.M
)


def documented() -> dict[str, tuple[str, tuple[str, ...]]]:
    return {
        row["name"]: (row["kind"], tuple(re.findall(r"`(\w+)`", row["labels"])))
        for row in ROW.finditer(DOCUMENT.read_text(encoding="utf-8"))
    }


def exposed_name(name: str, kind: str) -> str:
    """As Prometheus stores it; for a histogram without _bucket, _sum and _count."""
    return name + {"counter": "_total", "info": "_info"}.get(kind, "")


def gpu_rows() -> dict[str, tuple[str, tuple[str, ...]]]:
    """The GPUs' families, their labels found on a GPU that tells everything."""
    gpu = FakeGpu()
    nvml = FakeNvml([gpu])
    monitor, reader = GpuMonitor(interval=60), GpuReader(nvml)
    monitor.update(reader.read())
    nvml.xid(gpu, 13)
    monitor.update(reader.read())
    return {
        exposed_name(family.name, family.type): (
            family.type,
            tuple(family.samples[0].labels),
        )
        for family in text_string_to_metric_families(text_of(Metrics(), monitor=monitor))
        if family.name.startswith("lockgate_gpu")
    }


def test_the_document_names_every_metric_and_no_other():
    declared: Mapping[str, tuple[str, tuple[str, ...]]] = {
        exposed_name(family.name, family.kind): (family.kind, family.labels) for family in FAMILIES
    }
    found = {name: (kind, set(labels)) for name, (kind, labels) in documented().items()}
    expected = {
        name: (kind, set(labels)) for name, (kind, labels) in (declared | gpu_rows()).items()
    }
    expected = {
        name: ("gauge" if kind == "info" else kind, labels)
        for name, (kind, labels) in expected.items()
    }
    assert found == expected


def test_every_family_is_there_before_the_first_request():
    for text in (
        text_of(Metrics()),
        render(Metrics(), {}, GpuMonitor(interval=1), {}, BOUNDS).decode(),
    ):
        exposed = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
        assert set(exposed) >= {exposed_name(family.name, family.kind) for family in FAMILIES}
        assert len(exposed) == len(set(exposed)), "no name stands for two families"


def test_no_family_has_labels_beside_those_it_declares():
    metrics = new_metrics(max_keys=1)
    good = exchange_of()
    good.key_name = "k"
    good.answer = AnswerRecord(1)
    good.answer.first_token, good.answer.ended = good.started + 1, good.started + 2
    good.answer.completion_tokens, good.answer.outcome = 5, "completed"
    metrics.on_response(good, CHAT, 1.0)
    client = EngineClient()
    client.connected(lambda _: None, READY)
    declared = {
        f"{family.name}_info" if family.kind == "info" else family.name: set(family.labels)
        for family in FAMILIES
    }
    without_samples = set(declared)
    for family in text_string_to_metric_families(text_of(metrics, client)):
        for sample in family.samples:
            if family.name in declared:
                assert set(sample.labels) - {"le"} == declared[family.name], family.name
                without_samples.discard(family.name)
    assert without_samples == set()


def gpu_samples(*gpus: FakeGpu, nvml: FakeNvml | None = None, min_free_bytes: int = 0):
    nvml = nvml or FakeNvml(gpus)
    monitor = GpuMonitor(interval=60, min_free_bytes=min_free_bytes)
    reader = GpuReader(nvml)
    monitor.update(reader.read())
    for gpu in gpus:
        nvml.xid(gpu, 13)
    monitor.update(reader.read())
    prefix = "lockgate_gpu_"
    return {
        (name.removeprefix(prefix), *(value for _, value in sorted(labels.items()))): value
        for name, labels, value in Shown(text_of(Metrics(), monitor=monitor)).samples
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
        ("xid_errors_total", "0", "79"): 0,
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
