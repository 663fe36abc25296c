"""Prometheus metrics. Counting is plain arithmetic; text is made when somebody asks for it."""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.assembler import Assembler
from gateway.gpu_metrics import gpu_families
from runtime import EngineClient, FromEngine, GpuMonitor, StepOutput, __version__

PREFIX = "lockgate:"
CONTENT_TYPE = CONTENT_TYPE_LATEST

LATENCY_BUCKETS = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
"""Seconds. From 1 ms, because a small model on a fast machine is that fast."""

REJECTIONS = (
    *("engine_overloaded", "engine_unavailable", "deadline_exceeded", "gpu_memory_pressure"),
    *("rate_limit_exceeded", "server_draining", "invalid_api_key", "permission_denied"),
    *("host_not_allowed", "origin_not_allowed", "model_not_allowed", "priority_not_allowed"),
    *("body_timeout", "request_timeout"),
)
"""Codes of errors that say that the server would not have this request now, or from this client."""


class Histogram:
    """Counts per bucket, made for being written often and read seldom."""

    def __init__(self, buckets: Sequence[float] = LATENCY_BUCKETS) -> None:
        self._bounds = tuple(buckets)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def family(self, name: str, documentation: str) -> HistogramMetricFamily:
        total = 0
        buckets = []
        for bound, count in zip([*map(str, self._bounds), "+Inf"], self._counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        family = HistogramMetricFamily(PREFIX + name, documentation)
        family.add_metric([], buckets, self._sum)
        return family


class Timeline:
    """Times one answer: `delta` at every delta, then `finish` or `abort`, once."""

    __slots__ = ("_assembler", "_last", "_metrics", "_num_seen", "_started")

    def __init__(self, metrics: "Metrics", started: float, assembler: Assembler) -> None:
        self._metrics = metrics
        self._started = started
        self._assembler = assembler
        self._last = 0.0
        self._num_seen = 0

    def delta(self, num_outputs: int) -> None:
        """After `assembler.push`. A delta of k tokens is k gaps between tokens, of equal size."""
        now = time.monotonic()
        num_tokens = self._assembler.num_completion_tokens - self._num_seen
        if not num_tokens:
            return
        if self._num_seen:
            gap = (now - self._last) * min(num_outputs, num_tokens) / num_tokens
            self._metrics.inter_token_latency.observe(gap, num_tokens)
        else:
            self._metrics.time_to_first_token.observe(now - self._started)
        self._last = now
        self._num_seen += num_tokens

    def finish(self) -> None:
        """The answer is complete."""
        usage = self._assembler.usage
        metrics = self._metrics
        metrics.e2e_latency.observe(time.monotonic() - self._started)
        metrics.prompt_tokens += usage.prompt_tokens
        metrics.generation_tokens += usage.completion_tokens
        metrics.cached_tokens += usage.prompt_tokens_details.cached_tokens
        metrics.successes.update(self._assembler.finish_reasons)

    def abort(self) -> None:
        """The client left before the end."""
        self._metrics.aborted += 1


class Metrics:
    """All counters of one server. Single-threaded.

    Prompt and generation tokens are those of answers that were completed: exactly the sum of
    their `usage`. What the engine computed, for whatever reason, is counted by itself.
    """

    def __init__(self) -> None:
        self.time_to_first_token = Histogram()
        self.inter_token_latency = Histogram()
        self.e2e_latency = Histogram()
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.cached_tokens = 0
        self.engine_prompt_tokens = 0
        self.engine_cached_tokens = 0
        self.engine_generation_tokens = 0
        self.preempted = 0
        self.aborted = 0
        self.successes: Counter[str] = Counter(stop=0, length=0)
        self.rejections: Counter[str] = Counter(dict.fromkeys(REJECTIONS, 0))
        self.http_requests: Counter[tuple[str, int]] = Counter()

    def on_engine_event(self, event: FromEngine) -> None:
        """Once per step of the engine."""
        if isinstance(event, StepOutput):
            stats = event.stats
            self.engine_prompt_tokens += stats.num_prompt_tokens
            self.engine_cached_tokens += stats.num_cached_tokens
            self.engine_generation_tokens += stats.num_generation_tokens
            self.preempted += stats.num_preempted

    def on_response(self, endpoint: str, status: int, error_code: str | None) -> None:
        """Once per HTTP request, when it is over."""
        self.http_requests[endpoint, status] += 1
        if error_code is not None and error_code in self.rejections:
            self.rejections[error_code] += 1


def render(metrics: Metrics, client: EngineClient, model_name: str, monitor: GpuMonitor) -> bytes:
    """The text that Prometheus reads."""
    registry = CollectorRegistry()
    registry.register(_Families(metrics, client, model_name, monitor))
    return generate_latest(registry)


class _Families(Collector):
    """The numbers of this moment, as the exposition format wants them."""

    def __init__(
        self, metrics: Metrics, client: EngineClient, model_name: str, monitor: GpuMonitor
    ) -> None:
        self._metrics = metrics
        self._client = client
        self._model_name = model_name
        self._monitor = monitor

    def collect(self) -> Iterator[Metric]:
        info = {"version": __version__, "model_name": self._model_name}
        yield InfoMetricFamily(PREFIX + "build", "What is running.", info)
        yield from self._gauges()
        yield from self._counters()
        yield from self._labelled_counters()
        yield from self._histograms()
        yield from gpu_families(PREFIX, self._monitor)

    def _gauges(self) -> Iterable[Metric]:
        stats = self._client.stats
        for name, value, documentation in (
            ("num_requests_running", stats.num_running, "Sequences in the engine's batch."),
            ("num_requests_waiting", stats.num_waiting, "Sequences in the waiting queue."),
            ("num_requests_in_flight", self._client.num_in_flight, "Submitted and not finished."),
            ("kv_cache_usage_perc", stats.kv_cache_usage, "Share of KV cells in use, 0 to 1."),
            (
                "prefix_cache_usage_perc",
                stats.prefix_cache_usage,
                "Share of the memory for idle prefixes in use, 0 to 1.",
            ),
            ("engine_ready", int(self._client.state == "ready"), "1 when requests are taken."),
        ):
            yield GaugeMetricFamily(PREFIX + name, documentation, value)

    def _counters(self) -> Iterable[Metric]:
        metrics = self._metrics
        looked_up = metrics.engine_prompt_tokens + metrics.engine_cached_tokens
        for name, value, documentation in (
            ("prompt_tokens", metrics.prompt_tokens, "Prompt tokens of completed answers."),
            ("generation_tokens", metrics.generation_tokens, "Tokens of completed answers."),
            ("prompt_tokens_cached", metrics.cached_tokens, "Prompt tokens found in the cache."),
            ("engine_prompt_tokens", metrics.engine_prompt_tokens, "Prompt tokens computed."),
            ("engine_generation_tokens", metrics.engine_generation_tokens, "Tokens sampled."),
            ("prefix_cache_queries", looked_up, "Prompt tokens looked up in the KV cache."),
            ("prefix_cache_hits", metrics.engine_cached_tokens, "Those that were found there."),
            ("num_preemptions", metrics.preempted, "Sequences sent back to the queue."),
            ("requests_aborted", metrics.aborted, "Answers whose client left before the end."),
        ):
            yield CounterMetricFamily(PREFIX + name, documentation, value)

    def _labelled_counters(self) -> Iterable[Metric]:
        metrics = self._metrics
        success = CounterMetricFamily(
            PREFIX + "request_success", "Choices completed.", labels=["finished_reason"]
        )
        for finish_reason, count in metrics.successes.items():
            success.add_metric([finish_reason], count)
        rejected = CounterMetricFamily(
            PREFIX + "requests_rejected", "Requests that found no place.", labels=["reason"]
        )
        for reason, count in metrics.rejections.items():
            rejected.add_metric([reason], count)
        http = CounterMetricFamily(
            PREFIX + "http_requests",
            "HTTP requests by route and status; 499 is a client that left.",
            labels=["endpoint", "status"],
        )
        for (endpoint, status), count in metrics.http_requests.items():
            http.add_metric([endpoint, str(status)], count)
        return success, rejected, http

    def _histograms(self) -> Iterable[Metric]:
        metrics = self._metrics
        for name, histogram, documentation in (
            (
                "time_to_first_token",
                metrics.time_to_first_token,
                "Request received to first token.",
            ),
            ("inter_token_latency", metrics.inter_token_latency, "From one token to the next."),
            ("e2e_request_latency", metrics.e2e_latency, "Request received to answer complete."),
        ):
            yield histogram.family(f"{name}_seconds", documentation)
