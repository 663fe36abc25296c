"""The text that Prometheus scrapes, built on each scrape."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import get_args

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

from gateway.bounds.bounds import Bounds
from gateway.observability.metrics.gpu import gpu_families
from gateway.observability.metrics.instrument import MODEL, Family, Kind, Sample
from gateway.observability.metrics.model import ModelMetrics
from gateway.observability.metrics.processes import ProcessUsage
from gateway.observability.metrics.readings import (
    OF_BOUNDS,
    OF_MODELS,
    OF_PROCESSES,
    ModelSource,
)
from gateway.observability.metrics.server import Metrics
from runtime.client.handle import EngineHandle
from runtime.hardware.gpu_monitor import GpuMonitor

CONTENT_TYPE = CONTENT_TYPE_LATEST


def _place(family: Family) -> tuple[int, int, bool]:
    """Where the family stands in the text: models and requests by kind, processes, keys. Of one
    kind, those that count by model alone come first."""
    match family.labels:
        case ("process",) | ():
            return 1, 0, False
        case ("key",):
            return 2, 0, False
    return 0, get_args(Kind).index(family.kind), family.labels != MODEL


def _declared() -> Iterator[Family]:
    yield from (reading.family for reading in OF_PROCESSES)
    yield from (reading.family for reading in OF_BOUNDS)
    yield from (instrument.family for instrument in ModelMetrics().walk())
    yield from (reading.family for reading in OF_MODELS)
    yield from (instrument.family for instrument in Metrics().walk())


FAMILIES: tuple[Family, ...] = tuple(sorted(_declared(), key=_place))
"""Every family but the GPUs', which are in the text even without a sample."""


def render(
    metrics: Metrics,
    clients: Mapping[str, EngineHandle],
    monitor: GpuMonitor,
    processes: Mapping[str, ProcessUsage],
    bounds: Bounds,
) -> bytes:
    """All families. `clients` by the names of the models, `processes` by "gateway" and "engine"."""
    models = [ModelSource(name, client, metrics.of(name)) for name, client in clients.items()]
    registry = CollectorRegistry()
    registry.register(_Families(metrics, models, monitor, processes, bounds))
    return generate_latest(registry)


class _Families(Collector):
    """The current values in the form that the exposition format needs."""

    def __init__(
        self,
        metrics: Metrics,
        models: Sequence[ModelSource],
        monitor: GpuMonitor,
        processes: Mapping[str, ProcessUsage],
        bounds: Bounds,
    ) -> None:
        self._metrics = metrics
        self._models = models
        self._monitor = monitor
        self._processes = processes
        self._bounds = bounds

    def collect(self) -> Iterator[Metric]:
        found: dict[Family, list[Sample]] = {family: [] for family in FAMILIES}
        for family, samples in self._samples():
            found.setdefault(family, []).extend(samples)
        for family in sorted(found, key=_place):
            yield _metric(family, found[family])
        yield from gpu_families(self._monitor)

    def _samples(self) -> Iterator[tuple[Family, Iterable[Sample]]]:
        for reading in OF_PROCESSES:
            yield reading.family, reading.samples(self._processes)
        for limit in OF_BOUNDS:
            yield limit.family, limit.samples(self._bounds)
        for model in self._models:
            for family, samples in _of_model(model):
                yield family, (((model.name, *labels), value) for labels, value in samples)
        for instrument in self._metrics.walk():
            yield instrument.family, instrument.samples()


def _of_model(model: ModelSource) -> Iterator[tuple[Family, Iterable[Sample]]]:
    for instrument in model.metrics.walk():
        yield instrument.family, instrument.samples()
    for reading in OF_MODELS:
        yield reading.family, reading.samples(model)


def _metric(family: Family, samples: Iterable[Sample]) -> Metric:
    match family.kind:
        case "info":
            return _info(family, samples)
        case "gauge":
            return _gauge(family, samples)
        case "counter":
            return _counter(family, samples)
        case "histogram":
            return _histogram(family, samples)


def _info(family: Family, samples: Iterable[Sample]) -> Metric:
    metric = InfoMetricFamily(family.name, family.documentation)
    for labels, _ in samples:
        metric.add_metric([], dict(zip(family.labels, labels, strict=True)))
    return metric


def _gauge(family: Family, samples: Iterable[Sample]) -> Metric:
    metric = GaugeMetricFamily(family.name, family.documentation, labels=family.labels)
    for labels, value in samples:
        metric.add_metric(labels, value)
    return metric


def _counter(family: Family, samples: Iterable[Sample]) -> Metric:
    metric = CounterMetricFamily(family.name, family.documentation, labels=family.labels)
    for labels, value in samples:
        metric.add_metric(labels, value)
    return metric


def _histogram(family: Family, samples: Iterable[Sample]) -> Metric:
    metric = HistogramMetricFamily(family.name, family.documentation, labels=family.labels)
    for labels, histogram in samples:
        metric.add_metric(labels, histogram.cumulative(), histogram.sum)
    return metric
