"""The GPUs' readings as Prometheus families. Readings that the driver does not report are left
out."""

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric

from runtime.hardware.gpu_monitor import GpuMonitor
from runtime.hardware.readings import THROTTLE_REASONS, GpuReading

_GAUGES: tuple[tuple[str, str, Callable[[GpuReading], float | None]], ...] = (
    ("memory_total_bytes", "Memory of the GPU.", lambda gpu: gpu.memory_total),
    ("memory_used_bytes", "Memory in use, by anybody.", lambda gpu: gpu.memory_used),
    ("memory_free_bytes", "Memory that is free.", lambda gpu: gpu.memory_free),
    ("utilization_perc", "Share of time with a kernel running, 0 to 1.", lambda g: g.utilization),
    (
        "memory_utilization_perc",
        "Share of time with memory being read or written, 0 to 1.",
        lambda gpu: gpu.memory_utilization,
    ),
    ("temperature_celsius", "Temperature of the GPU.", lambda gpu: gpu.temperature),
    ("power_watts", "Power drawn.", lambda gpu: gpu.power),
    ("power_limit_watts", "Power limit that is enforced.", lambda gpu: gpu.power_limit),
    ("clock_sm_hertz", "Clock of the multiprocessors.", lambda gpu: _hertz(gpu.clock_sm)),
    ("clock_memory_hertz", "Clock of the memory.", lambda gpu: _hertz(gpu.clock_memory)),
    ("lost", "1 when the driver cannot reach the GPU any more.", lambda gpu: bool(gpu.problem)),
)

_COMMON_XIDS = (13, 31, 43, 45, 48, 63, 64, 74, 79, 92, 94, 95, 119)
"""Common faults of programs, memory, bus and card. Their counters are exported as 0 from the start,
so that the first fault is an increase. Counters of other faults appear with the first fault."""


def gpu_families(monitor: GpuMonitor) -> Iterator[Metric]:
    """Every family, including families without any GPU, so that a dashboard finds them at once."""
    gpus = monitor.snapshot.gpus
    yield GaugeMetricFamily(
        "lockgate_gpu_monitor_up",
        "1 when the driver answered the last time.",
        int(not monitor.snapshot.problem),
    )
    yield GaugeMetricFamily(
        "lockgate_gpu_memory_pressure",
        "1 while requests are refused for want of GPU memory.",
        int(monitor.under_pressure),
    )
    yield _info(gpus)
    for name, documentation, value_of in _GAUGES:
        family = GaugeMetricFamily(f"lockgate_gpu_{name}", documentation, labels=["gpu"])
        for gpu in gpus:
            if (value := value_of(gpu)) is not None:
                family.add_metric([str(gpu.index)], value)
        yield family
    yield _throttled(gpus)
    yield _ecc_errors(gpus)
    yield _xid_errors(gpus)


def _info(gpus: tuple[GpuReading, ...]) -> Metric:
    family = InfoMetricFamily("lockgate_gpu", "Which GPUs there are.", labels=["gpu"])
    for gpu in gpus:
        family.add_metric([str(gpu.index)], {"name": gpu.name, "uuid": gpu.uuid})
    return family


def _throttled(gpus: tuple[GpuReading, ...]) -> Metric:
    family = GaugeMetricFamily(
        "lockgate_gpu_throttled", "1 when the clocks are lower for this.", labels=["gpu", "reason"]
    )
    for gpu in gpus:
        for reason in THROTTLE_REASONS if gpu.throttle_reasons is not None else ():
            family.add_metric([str(gpu.index), reason], reason in (gpu.throttle_reasons or ()))
    return family


def _ecc_errors(gpus: tuple[GpuReading, ...]) -> Metric:
    family = CounterMetricFamily(
        "lockgate_gpu_ecc_errors",
        "Memory errors since the driver was loaded.",
        labels=["gpu", "kind"],
    )
    for gpu in gpus:
        for kind, count in (("corrected", gpu.ecc_corrected), ("uncorrected", gpu.ecc_uncorrected)):
            if count is not None:
                family.add_metric([str(gpu.index), kind], count)
    return family


def _xid_errors(gpus: tuple[GpuReading, ...]) -> Metric:
    family = CounterMetricFamily(
        "lockgate_gpu_xid_errors",
        "Critical errors of the driver since the server started.",
        labels=["gpu", "xid"],
    )
    for gpu in gpus:
        for xid, count in (dict.fromkeys(_COMMON_XIDS, 0) | gpu.xids).items():
            family.add_metric([str(gpu.index), str(xid)], count)
    return family


def _hertz(megahertz: int | None) -> float | None:
    return None if megahertz is None else megahertz * 1e6
