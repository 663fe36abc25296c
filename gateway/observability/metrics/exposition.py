"""The text that Prometheus scrapes, built on each scrape."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import get_args

from msgspec import Struct
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

from gateway.observability.metrics import table
from gateway.observability.metrics.gpu import gpu_families
from gateway.observability.metrics.histogram import Histogram
from gateway.observability.metrics.model import ModelMetrics
from gateway.observability.metrics.processes import ProcessUsage
from gateway.observability.metrics.server import PROVIDER, GenAiLabels, Metrics
from gateway.observability.metrics.table import Family
from runtime.client.handle import EngineHandle, EngineState
from runtime.hardware.gpu_monitor import GpuMonitor
from runtime.version import __version__

CONTENT_TYPE = CONTENT_TYPE_LATEST

Samples = Iterable[tuple[Sequence[str], float]]


class ModelSource(Struct, frozen=True):
    """A served model: its name, its engine, its counters."""

    name: str
    client: EngineHandle
    metrics: ModelMetrics


def render(
    metrics: Metrics,
    clients: Mapping[str, EngineHandle],
    monitor: GpuMonitor,
    processes: Mapping[str, ProcessUsage],
) -> bytes:
    """All families. `clients` by the names of the models, `processes` by "gateway" and "engine"."""
    models = [ModelSource(name, client, metrics.of(name)) for name, client in clients.items()]
    registry = CollectorRegistry()
    registry.register(_Families(metrics, models, monitor, processes))
    return generate_latest(registry)


class _Families(Collector):
    """The current values in the form that the exposition format needs."""

    def __init__(
        self,
        metrics: Metrics,
        models: Sequence[ModelSource],
        monitor: GpuMonitor,
        processes: Mapping[str, ProcessUsage],
    ) -> None:
        self._metrics = metrics
        self._models = models
        self._monitor = monitor
        self._processes = processes

    def collect(self) -> Iterator[Metric]:
        yield _info(table.BUILD, [{"version": __version__}])
        yield _info(table.ENGINE, [_engine_info(model) for model in self._models])
        for family, value_of in _GAUGES:
            values = [([model.name], value_of(model.client)) for model in self._models]
            yield _gauge(family, values)
        yield from self._states()
        for family, count_of in _COUNTERS:
            yield _counter(family, [([model.name], count_of(model)) for model in self._models])
        yield from self._labelled_counters()
        for family, histogram_of in _HISTOGRAMS:
            found = [([model.name], histogram_of(model.metrics)) for model in self._models]
            yield _histogram(family, found)
        yield from self._genai()
        yield from self._usage()
        yield from self._keys()
        yield from gpu_families(table.PREFIX, self._monitor)

    def _states(self) -> Iterator[Metric]:
        yield _gauge(
            table.STATE,
            [
                ([model.name, state], float(model.client.state == state))
                for model in self._models
                for state in get_args(EngineState)
            ],
        )
        yield _gauge(
            table.WAITING_BY_REASON,
            [
                ([model.name, reason], count)
                for model in self._models
                for reason, count in _waiting(model.client).items()
            ],
        )

    def _labelled_counters(self) -> Iterator[Metric]:
        metrics = self._metrics
        yield _counter(
            table.SUCCESS,
            [
                ([model.name, reason], count)
                for model in self._models
                for reason, count in model.metrics.successes.items()
            ],
        )
        yield _counter(
            table.RESUMED,
            [
                ([model.name, reason], count)
                for model in self._models
                for reason, count in (
                    ("preempted", model.metrics.engine.resumed),
                    ("engine_restarted", model.client.num_resumed),
                )
            ],
        )
        yield _counter(table.REJECTED, [([r], count) for r, count in metrics.rejections.items()])
        yield _counter(
            table.HTTP_REQUESTS,
            [
                ([at.endpoint, at.model_name, str(at.status), at.error], count)
                for at, count in metrics.http_requests.items()
            ],
        )

    def _genai(self) -> Iterator[Metric]:
        metrics = self._metrics
        yield _histogram(
            table.GENAI_DURATION,
            [([*_genai(at), at.error], found) for at, found in metrics.genai_durations.items()],
        )
        for family, histograms in (
            (table.GENAI_FIRST_TOKEN, metrics.genai_first_tokens),
            (table.GENAI_OUTPUT_TOKEN, metrics.genai_output_tokens),
        ):
            yield _histogram(family, [(_genai(at), found) for at, found in histograms.items()])

    def _usage(self) -> Iterator[Metric]:
        usages = self._processes.items()
        yield _counter(table.CPU, [([name], usage.cpu_seconds) for name, usage in usages])
        yield _gauge(table.MEMORY, [([name], usage.memory_bytes) for name, usage in usages])

    def _keys(self) -> Iterator[Metric]:
        keys = self._metrics.keys.items()
        yield _counter(table.KEY_REQUESTS, [([key], usage.requests) for key, usage in keys])
        yield _counter(
            table.KEY_PROMPT_TOKENS, [([key], usage.prompt_tokens) for key, usage in keys]
        )
        yield _counter(
            table.KEY_GENERATION_TOKENS, [([key], usage.generation_tokens) for key, usage in keys]
        )


_GAUGES: tuple[tuple[Family, Callable[[EngineHandle], float]], ...] = (
    (table.RUNNING, lambda client: client.stats.num_running),
    (table.WAITING, lambda client: client.stats.num_waiting + client.stats.num_preparing),
    (table.IN_FLIGHT, lambda client: client.num_in_flight),
    (table.KV_USAGE, lambda client: client.stats.usage.kv_cache_usage),
    (table.PREFIX_USAGE, lambda client: client.stats.usage.prefix_cache_usage),
    (table.READY, lambda client: client.state == "ready"),
    (table.MAX_RUNNING, lambda client: client.limits.max_num_seqs if client.limits else 0),
    (table.MAX_WAITING, lambda client: client.limits.max_num_waiting if client.limits else 0),
    (table.KV_TOKENS, lambda client: client.limits.num_kv_tokens if client.limits else 0),
)

_COUNTERS: tuple[tuple[Family, Callable[[ModelSource], float]], ...] = (
    (table.PROMPT_TOKENS, lambda model: model.metrics.prompt_tokens),
    (table.GENERATION_TOKENS, lambda model: model.metrics.generation_tokens),
    (table.CACHED_TOKENS, lambda model: model.metrics.cached_tokens),
    (table.ENGINE_PROMPT_TOKENS, lambda model: model.metrics.engine.prompt_tokens),
    (table.ENGINE_GENERATION_TOKENS, lambda model: model.metrics.engine.generation_tokens),
    (
        table.PREFIX_QUERIES,
        lambda model: model.metrics.engine.prompt_tokens + model.metrics.engine.cached_tokens,
    ),
    (table.PREFIX_HITS, lambda model: model.metrics.engine.cached_tokens),
    (table.PREEMPTIONS, lambda model: model.metrics.engine.preempted),
    (table.DRAFT_TOKENS, lambda model: model.metrics.engine.draft_tokens),
    (table.ACCEPTED_TOKENS, lambda model: model.metrics.engine.accepted_tokens),
    (table.ABORTED, lambda model: model.metrics.aborted),
    (table.FAILED, lambda model: model.metrics.failed),
    (table.RESTARTS, lambda model: model.client.num_restarts),
)

_HISTOGRAMS: tuple[tuple[Family, Callable[[ModelMetrics], Histogram]], ...] = (
    (table.TTFT, lambda metrics: metrics.time_to_first_token),
    (table.INTER_TOKEN, lambda metrics: metrics.inter_token_latency),
    (table.PER_TOKEN, lambda metrics: metrics.time_per_output_token),
    (table.E2E, lambda metrics: metrics.e2e_latency),
    (table.QUEUE, lambda metrics: metrics.queue_time),
    (table.PREFILL, lambda metrics: metrics.prefill_time),
    (table.DECODE, lambda metrics: metrics.decode_time),
    (table.INFERENCE, lambda metrics: metrics.inference_time),
    (table.ANSWER_PROMPT_TOKENS, lambda metrics: metrics.request_prompt_tokens),
    (table.ANSWER_TOKENS, lambda metrics: metrics.request_generation_tokens),
    (table.STEP_SECONDS, lambda metrics: metrics.engine.step_seconds),
    (table.STEP_TOKENS, lambda metrics: metrics.engine.step_tokens),
    (table.BATCH_SIZE, lambda metrics: metrics.engine.batch_size),
    (table.GRAMMAR, lambda metrics: metrics.engine.grammar_seconds),
)


def _waiting(client: EngineHandle) -> dict[str, int]:
    stats = client.stats
    return {
        "capacity": stats.num_waiting - stats.num_waiting_preempted,
        "preempted": stats.num_waiting_preempted,
        "grammar": stats.num_preparing,
    }


def _engine_info(model: ModelSource) -> dict[str, str]:
    info = model.client.info
    if info is None:
        return {}
    return {
        "model_name": model.name,
        "engine": info.engine,
        "version": info.version,
        "device": info.device,
    }


def _genai(labels: GenAiLabels) -> list[str]:
    return [labels.operation, PROVIDER, labels.model_name, labels.model_name]


def _gauge(family: Family, samples: Samples) -> Metric:
    metric = GaugeMetricFamily(family.name, family.documentation, labels=family.labels)
    for labels, value in samples:
        metric.add_metric(labels, value)
    return metric


def _counter(family: Family, samples: Samples) -> Metric:
    metric = CounterMetricFamily(family.name, family.documentation, labels=family.labels)
    for labels, value in samples:
        metric.add_metric(labels, value)
    return metric


def _histogram(family: Family, samples: Iterable[tuple[Sequence[str], Histogram]]) -> Metric:
    metric = HistogramMetricFamily(family.name, family.documentation, labels=family.labels)
    for labels, histogram in samples:
        metric.add_metric(labels, histogram.cumulative(), histogram.sum)
    return metric


def _info(family: Family, values: Iterable[dict[str, str]]) -> Metric:
    metric = InfoMetricFamily(family.name, family.documentation)
    for value in values:
        if value:
            metric.add_metric([], value)
    return metric
