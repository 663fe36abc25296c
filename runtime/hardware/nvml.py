"""Reads the NVIDIA GPUs of this machine through NVML, the driver's library.

A value that the driver does not report is None: some drivers, consumer cards and MIG leave values
out. A machine without a driver, or whose driver goes away, gives a snapshot with a `problem` and no
GPUs. NVML's errors are never raised to the caller.
"""

import contextlib
import ctypes
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from runtime.hardware.readings import (
    THROTTLE_REASONS,
    GpuReading,
    GpuSnapshot,
    ProcessMemory,
)

_Value = TypeVar("_Value")
# Data is transferred on both edges of the memory clock.
_TRANSFERS_PER_CLOCK = 2


class GpuReader:
    """Reads GPUs through NVML, which it opens at the first `read`, and again after an error.

    Single-threaded; a call may block for as long as the driver does. `library` is the module
    `pynvml` (nvidia-ml-py), imported when it is needed.
    """

    def __init__(self, library: Any = None) -> None:
        self._library = library
        self._is_open = False
        self._devices: list[_Device] = []
        self._unreachable: list[GpuReading] = []
        self._events: _XidEvents | None = None
        self._xids: dict[str, Counter[int]] = {}  # kept when the driver fails: XIDs explain why

    def read(self) -> GpuSnapshot:
        """A snapshot of all GPUs."""
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
        """Closes NVML. The next `read` opens it again, and finds the GPUs that exist then."""
        if not self._is_open:
            return
        nvml = self._nvml()
        self._is_open = False
        self._devices = []
        if self._events is not None:
            self._events.close()
            self._events = None
        with contextlib.suppress(nvml.NVMLError):  # a driver that is gone cannot be closed
            nvml.nvmlShutdown()

    def _nvml(self) -> Any:
        if self._library is None:
            import pynvml  # imported late, because the import is slow

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
    """One GPU: its handle and its constant properties."""

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
        """The result of one NVML call for this GPU; None if the driver does not report it."""
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
    """Counts XIDs, the driver's critical errors. Where events are not permitted or not supported
    (Windows, WSL, MIG), nothing is counted."""

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
        """Counts the events since the last call, without waiting."""
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
            uuid = self._uuids.get(_address(event.device), "")  # a lost GPU may have no id
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


def _lost(
    index: int, error: Exception, name: str = "", uuid: str = "", xids: dict[int, int] | None = None
) -> GpuReading:
    problem = f"the driver cannot reach this GPU: {error}"
    return GpuReading(index=index, name=name, uuid=uuid, xids=xids or {}, problem=problem)


def _is_lost(nvml: Any, error: Exception) -> bool:
    """Whether the error means that this one GPU does not answer any more."""
    return isinstance(error, nvml.NVMLError_GpuIsLost | nvml.NVMLError_ResetRequired)


def _is_gone(nvml: Any, error: Exception) -> bool:
    """Whether the error means that the driver does not answer any more, or was replaced by another
    version."""
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
    """The address in a handle. Handles are pointers: two handles of one GPU are not equal, but
    their addresses are."""
    return ctypes.cast(handle, ctypes.c_void_p).value


def _text(value: str | bytes) -> str:
    """A text of NVML, which is bytes in older releases of nvidia-ml-py."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
