"""Readings of the GPUs at one moment, as frozen Structs."""

from collections.abc import Mapping

from msgspec import Struct

THROTTLE_REASONS: Mapping[str, int] = {
    "gpu_idle": 0x1,
    "applications_clocks_setting": 0x2,
    "sw_power_cap": 0x4,
    "hw_slowdown": 0x8,
    "sync_boost": 0x10,
    "sw_thermal_slowdown": 0x20,
    "hw_thermal_slowdown": 0x40,
    "hw_power_brake_slowdown": 0x80,
    "display_clock_setting": 0x100,
}
"""Why the clocks are lower than they could be: NVML's bits (nvml.h, nvmlClocksEventReasons)."""


class ProcessMemory(Struct, frozen=True):
    """A process that computes on the GPU, and the bytes that it holds there: None inside containers
    and on Windows, where the driver does not report them."""

    pid: int
    memory_used: int | None


class GpuReading(Struct, frozen=True, kw_only=True):
    """One GPU at one moment. Values that the driver does not report are None. `problem` says why it
    reports none at all, such as for a lost GPU.

    Memory is in bytes, utilisation from 0 to 1, temperature in degrees Celsius, power in watts,
    clocks in MHz. `memory_bandwidth` is in bytes a second, computed from the memory's top clock and
    bus width. ECC errors are counted since the driver was loaded. `xids` maps XID numbers to their
    counts since the reader was made.
    """

    index: int
    name: str
    uuid: str
    compute_capability: str | None = None
    memory_total: int | None = None
    memory_used: int | None = None
    memory_free: int | None = None
    memory_bandwidth: float | None = None
    utilization: float | None = None
    memory_utilization: float | None = None
    temperature: int | None = None
    power: float | None = None
    power_limit: float | None = None
    clock_sm: int | None = None
    clock_memory: int | None = None
    throttle_reasons: tuple[str, ...] | None = None
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None
    xids: dict[int, int] = {}
    processes: tuple[ProcessMemory, ...] | None = None
    mig_enabled: bool | None = None
    problem: str = ""


class GpuSnapshot(Struct, frozen=True, kw_only=True):
    """All GPUs at one moment. `time` is in seconds of the monotonic clock. `problem` says why there
    are no GPUs."""

    time: float = 0.0
    driver_version: str = ""
    cuda_version: str = ""
    gpus: tuple[GpuReading, ...] = ()
    problem: str = ""
