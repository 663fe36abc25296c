"""The NVIDIA GPUs of this machine, as the driver describes them through NVML.

Every single reading may be missing: drivers, consumer cards and MIG leave some out, and then it is
None. A machine without a driver, and one whose driver goes away, give a snapshot with a `problem`
and no GPUs; nothing here raises what NVML raises.
"""

import contextlib
import ctypes
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from runtime.errors import SetupError
from runtime.hardware.gpu_table import GpuSpec, find_gpu, match_gpu

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

_Value = TypeVar("_Value")
# Words are transferred on both edges of the memory clock.
_TRANSFERS_PER_CLOCK = 2


class ProcessMemory(Struct, frozen=True):
    """A process that computes on the GPU, and the bytes it holds there. None inside containers
    and on Windows, where the driver does not tell."""

    pid: int
    memory_used: int | None


class GpuReading(Struct, frozen=True, kw_only=True):
    """One GPU at one moment. What the driver does not tell is None; `problem` says why it tells
    nothing at all (a GPU that is lost).

    Memory is in bytes, utilisation from 0 to 1, temperature in degrees Celsius, power in watts,
    clocks in MHz, bandwidth (of the memory, from its top clock and its bus) in bytes a second. ECC
    errors are those since the driver was loaded, XIDs (number to
    count) those since the reader was made.
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
    """All GPUs at one moment, on the monotonic clock. `problem` says why there are none."""

    time: float = 0.0
    driver_version: str = ""
    cuda_version: str = ""
    gpus: tuple[GpuReading, ...] = ()
    problem: str = ""


class GpuReader:
    """NVML, opened when it is first read and again after the driver was gone.

    Single-threaded; a call may block for as long as the driver does. `library` is the module
    `pynvml` (nvidia-ml-py), imported when it is needed.
    """

    def __init__(self, library: Any = None) -> None:
        self._library = library
        self._is_open = False
        self._devices: list[_Device] = []
        self._unreachable: list[GpuReading] = []
        self._events: _XidEvents | None = None
        self._xids: dict[str, Counter[int]] = {}  # outlives the driver: that is when it counts

    def read(self) -> GpuSnapshot:
        """The GPUs now."""
        nvml = self._nvml()
        try:
            self._open(nvml)
            snapshot = GpuSnapshot(
                time=time.monotonic(),
                driver_version=_text(nvml.nvmlSystemGetDriverVersion()),
                cuda_version=_cuda_version(nvml),
                gpus=self._readings(),
            )
        except nvml.NVMLError as error:
            self.close()
            return GpuSnapshot(time=time.monotonic(), problem=_problem(nvml, error))
        if any(gpu.problem for gpu in snapshot.gpus):
            self.close()  # a GPU that comes back is found by opening again
        return snapshot

    def close(self) -> None:
        """Leaves NVML. The next `read` opens it again, and finds the GPUs that are there then."""
        if not self._is_open:
            return
        nvml = self._nvml()
        self._is_open = False
        self._devices = []
        if self._events is not None:
            self._events.close()
            self._events = None
        with contextlib.suppress(nvml.NVMLError):  # a driver that is gone cannot be left
            nvml.nvmlShutdown()

    def _nvml(self) -> Any:
        if self._library is None:
            import pynvml  # here, because importing it takes longer than many a start has

            self._library = pynvml
        return self._library

    def _open(self, nvml: Any) -> None:
        if self._is_open:
            return
        nvml.nvmlInit()
        self._is_open = True
        self._devices, self._unreachable = [], []
        for index in range(nvml.nvmlDeviceGetCount()):
            try:
                self._devices.append(_Device(nvml, index))
            except nvml.NVMLError as error:
                if _is_gone(nvml, error):
                    raise
                self._unreachable.append(_lost(index, error))
        self._events = _XidEvents(nvml, self._devices, self._xids)

    def _readings(self) -> tuple[GpuReading, ...]:
        assert self._events is not None, "open"
        self._events.collect()
        readings = [device.read(self._xids.get(device.uuid, {})) for device in self._devices]
        return tuple(sorted([*readings, *self._unreachable], key=lambda gpu: gpu.index))


class _Device:
    """One GPU's handle, and what never changes about it."""

    def __init__(self, nvml: Any, index: int) -> None:
        self._nvml = nvml
        self._index = index
        self.handle = nvml.nvmlDeviceGetHandleByIndex(index)
        self._name = _text(nvml.nvmlDeviceGetName(self.handle))
        self.uuid = _text(self._ask("nvmlDeviceGetUUID") or "")
        self._compute_capability = self._ask("nvmlDeviceGetCudaComputeCapability")
        self._bandwidth = self._find_bandwidth()

    def read(self, xids: Mapping[int, int]) -> GpuReading:
        try:
            return self._read(dict(xids))
        except self._nvml.NVMLError as error:
            if not _is_lost(self._nvml, error):
                raise
            return _lost(self._index, error, self._name, self.uuid, dict(xids))

    def _read(self, xids: dict[int, int]) -> GpuReading:
        nvml = self._nvml
        memory = self._ask("nvmlDeviceGetMemoryInfo")
        rates = self._ask("nvmlDeviceGetUtilizationRates")
        mig = self._ask("nvmlDeviceGetMigMode")
        return GpuReading(
            index=self._index,
            name=self._name,
            uuid=self.uuid,
            compute_capability=_then(self._compute_capability, lambda pair: f"{pair[0]}.{pair[1]}"),
            memory_total=_then(memory, lambda info: int(info.total)),
            memory_used=_then(memory, lambda info: int(info.used)),
            memory_free=_then(memory, lambda info: int(info.free)),
            memory_bandwidth=self._bandwidth,
            utilization=_then(rates, lambda percent: percent.gpu / 100),
            memory_utilization=_then(rates, lambda percent: percent.memory / 100),
            temperature=self._ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
            power=_then(self._ask("nvmlDeviceGetPowerUsage"), _watts),
            power_limit=_then(self._ask("nvmlDeviceGetEnforcedPowerLimit"), _watts),
            clock_sm=self._ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
            clock_memory=self._ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM),
            throttle_reasons=_then(
                self._ask("nvmlDeviceGetCurrentClocksThrottleReasons"), _throttle_reasons
            ),
            ecc_corrected=self._ecc_errors(nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
            ecc_uncorrected=self._ecc_errors(nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
            xids=xids,
            processes=_then(self._ask("nvmlDeviceGetComputeRunningProcesses"), _processes),
            mig_enabled=_then(mig, lambda modes: modes[0] == nvml.NVML_DEVICE_MIG_ENABLE),
        )

    def _ask(self, function: str, *arguments: Any) -> Any:
        """The answer of one call about this GPU, None where the driver has none to give."""
        try:
            return getattr(self._nvml, function)(self.handle, *arguments)
        except self._nvml.NVMLLibraryMismatchError:
            return None  # the driver is older than the call
        except self._nvml.NVMLError as error:
            if _is_gone(self._nvml, error) or _is_lost(self._nvml, error):
                raise
            return None

    def _ecc_errors(self, kind: int) -> int | None:
        count: int | None = self._ask(
            "nvmlDeviceGetTotalEccErrors", kind, self._nvml.NVML_VOLATILE_ECC
        )
        return count

    def _find_bandwidth(self) -> float | None:
        clock = self._ask("nvmlDeviceGetMaxClockInfo", self._nvml.NVML_CLOCK_MEM)
        bits = self._ask("nvmlDeviceGetMemoryBusWidth")
        if not clock or not bits:
            return None
        return float(_TRANSFERS_PER_CLOCK * clock * 1e6 * bits / 8)


class _XidEvents:
    """Counts XIDs, the driver's critical errors, as they come. Where events are not permitted or
    not supported (Windows, WSL, MIG), nothing is counted."""

    def __init__(self, nvml: Any, devices: list[_Device], counts: dict[str, Counter[int]]) -> None:
        self._nvml = nvml
        self._counts = counts
        self._uuids = {_address(device.handle): device.uuid for device in devices}
        self._set: Any = None
        try:
            self._set = nvml.nvmlEventSetCreate()
        except nvml.NVMLError as error:
            if _is_gone(nvml, error):
                raise
            return
        for device in devices:
            self._register(device)

    def collect(self) -> None:
        """Takes what has come since the last time, without waiting."""
        while self._set is not None:
            try:
                event = self._nvml.nvmlEventSetWait_v2(self._set, 0)
            except self._nvml.NVMLError_Timeout:
                return
            except self._nvml.NVMLError as error:
                if _is_gone(self._nvml, error):
                    raise
                self.close()
                return
            uuid = self._uuids.get(_address(event.device), "")  # a lost GPU has no name any more
            self._counts.setdefault(uuid, Counter())[int(event.eventData)] += 1

    def close(self) -> None:
        if self._set is not None:
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlEventSetFree(self._set)
            self._set = None

    def _register(self, device: _Device) -> None:
        try:
            self._nvml.nvmlDeviceRegisterEvents(
                device.handle, self._nvml.nvmlEventTypeXidCriticalError, self._set
            )
        except self._nvml.NVMLError as error:
            if _is_gone(self._nvml, error):
                raise


def choose_gpu(name: str, index: int = 0) -> GpuSpec:
    """The GPU of that name, or, for "auto", the one of that number in this machine.

    Raises SetupError where the name is not known, and where the machine has no such GPU.
    """
    if name != "auto":
        return find_gpu(name)
    reader = GpuReader()
    try:
        snapshot = reader.read()
    finally:
        reader.close()
    if snapshot.problem or not snapshot.gpus:
        reason = snapshot.problem or "the driver sees no GPU"
        raise SetupError(f"--gpu auto: {reason}. Name one, such as --gpu rtx-4070")
    here = {gpu.index: gpu for gpu in snapshot.gpus}
    if index not in here:
        known = ", ".join(map(str, here))
        raise SetupError(f"--gpu-index: there is no GPU {index}; there are: {known}")
    spec = spec_of(here[index])
    if spec is None:
        reason = here[index].problem or "the driver tells too little about it"
        raise SetupError(f"--gpu auto: {here[index].name}: {reason}. Name one with --gpu")
    return spec


def spec_of(gpu: GpuReading) -> GpuSpec | None:
    """The GPU's figures: those of the table with the memory that is really there; of an unknown
    GPU the driver's own, without peak rates. None when the driver tells too little."""
    if gpu.memory_total is None or gpu.compute_capability is None:
        return None
    known = match_gpu(gpu.name, gpu.memory_total)
    if known is not None:
        return msgspec.structs.replace(known, memory_bytes=gpu.memory_total)
    if gpu.memory_bandwidth is None:
        return None
    major, _, minor = gpu.compute_capability.partition(".")
    return GpuSpec(
        name=gpu.name,
        nvml_name=gpu.name,
        memory_bytes=gpu.memory_total,
        bandwidth=gpu.memory_bandwidth,
        compute_capability=(int(major), int(minor)),
    )


def visible_gpus(gpus: Sequence[GpuReading]) -> tuple[GpuReading, ...]:
    """The GPUs that CUDA programs of this machine see: all, unless CUDA_VISIBLE_DEVICES says less.
    Numbers in it are taken for NVML's, as with CUDA_DEVICE_ORDER=PCI_BUS_ID."""
    words = [word.strip() for word in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    named = [
        gpu
        for word in words
        for gpu in gpus
        if word and (word == str(gpu.index) or (gpu.uuid and gpu.uuid.startswith(word)))
    ]
    return tuple(named or gpus)


def _lost(
    index: int, error: Exception, name: str = "", uuid: str = "", xids: dict[int, int] | None = None
) -> GpuReading:
    problem = f"the driver cannot reach this GPU: {error}"
    return GpuReading(index=index, name=name, uuid=uuid, xids=xids or {}, problem=problem)


def _is_lost(nvml: Any, error: Exception) -> bool:
    """Whether this one GPU does not answer any more."""
    return isinstance(error, nvml.NVMLError_GpuIsLost | nvml.NVMLError_ResetRequired)


def _is_gone(nvml: Any, error: Exception) -> bool:
    """Whether the driver itself does not answer any more, or was exchanged for another one."""
    return isinstance(
        error,
        nvml.NVMLError_Uninitialized
        | nvml.NVMLError_DriverNotLoaded
        | nvml.NVMLError_LibraryNotFound
        | nvml.NVMLError_LibRmVersionMismatch,
    )


def _problem(nvml: Any, error: Exception) -> str:
    if isinstance(error, nvml.NVMLError_LibraryNotFound | nvml.NVMLError_DriverNotLoaded):
        return "no NVIDIA driver on this machine"
    return f"the NVIDIA driver cannot be used: {error}"


def _cuda_version(nvml: Any) -> str:
    number = nvml.nvmlSystemGetCudaDriverVersion_v2()
    return f"{number // 1000}.{number % 1000 // 10}"


def _then(value: Any, function: Callable[[Any], _Value]) -> _Value | None:
    return None if value is None else function(value)


def _watts(milliwatts: int) -> float:
    return milliwatts / 1000


def _throttle_reasons(bits: int) -> tuple[str, ...]:
    return tuple(name for name, bit in THROTTLE_REASONS.items() if bits & bit)


def _processes(found: Iterable[Any]) -> tuple[ProcessMemory, ...]:
    return tuple(ProcessMemory(int(each.pid), each.usedGpuMemory) for each in found)


def _address(handle: Any) -> int | None:
    """Handles are pointers: two of one GPU are equal where they point to."""
    return ctypes.cast(handle, ctypes.c_void_p).value


def _text(value: str | bytes) -> str:
    """Older releases of nvidia-ml-py give bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
