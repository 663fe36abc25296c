"""NVML without a GPU: the functions of `pynvml` that are used, over GPUs that tests describe.

Constants, exceptions, handles and structures are the real ones. `fail` makes a function raise from
then on, for all GPUs or for one; so a test says what breaks and when.
"""

import ctypes
from collections import deque
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pynvml

GIB = 1 << 30
_STEP = 4096  # between two handles


class FakeGpu:
    """What one GPU answers. The default is a desktop RTX 4070 at work."""

    def __init__(self, name: str = "NVIDIA GeForce RTX 4070", **answers: Any) -> None:
        self.answers: dict[str, Any] = {
            "name": name,
            "uuid": f"GPU-{id(self):x}",
            "compute_capability": (8, 9),
            "total": 12 * GIB,
            "free": 4 * GIB,
            "gpu_percent": 80,
            "memory_percent": 40,
            "temperature": 65,
            "milliwatts": 180_500,
            "milliwatts_limit": 200_000,
            "clock_sm": 2475,
            "clock_memory": 10_501,
            "bus_bits": 192,
            "throttle_bits": 0x4 | 0x40,
            "ecc": {0: 3, 1: 1},
            "mig": [0, 0],
            "processes": [SimpleNamespace(pid=4711, usedGpuMemory=7 * GIB)],
        } | answers

    def __getitem__(self, key: str) -> Any:
        return self.answers[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.answers[key] = value


class FakeNvml:
    """Stands for the module `pynvml`."""

    def __init__(self, gpus: Sequence[FakeGpu] = ()) -> None:
        self.gpus = list(gpus)
        self.is_open = False
        self.num_opened = 0
        self._failures: dict[tuple[str, FakeGpu | None], Exception] = {}
        self._events: deque[tuple[FakeGpu, int]] = deque()
        self._registered: list[FakeGpu] = []

    def fail(self, function: str, error: type[Exception], gpu: FakeGpu | None = None) -> None:
        """From now on this function raises; `every` for all functions."""
        self._failures[function, gpu] = error()

    def heal(self) -> None:
        """Nothing fails any more."""
        self._failures.clear()

    def xid(self, gpu: FakeGpu, number: int) -> None:
        """The driver meets a critical error."""
        if gpu in self._registered:
            self._events.append((gpu, number))

    def __getattr__(self, name: str) -> Any:
        answer = getattr(type(self), f"_{name}", None)
        if answer is not None:
            return lambda *arguments: self._call(name, answer, arguments)
        value = getattr(pynvml, name)
        if callable(value) and not isinstance(value, type):
            raise AssertionError(f"the fake has no {name}")
        return value

    def _call(self, name: str, answer: Any, arguments: tuple[Any, ...]) -> Any:
        arguments = tuple(map(self._gpu_of, arguments))
        gpu = next((each for each in arguments if isinstance(each, FakeGpu)), None)
        for key in ((name, None), ("every", None), (name, gpu), ("every", gpu)):
            if key in self._failures:
                raise self._failures[key]
        if not self.is_open and name != "nvmlInit":
            raise pynvml.NVMLError_Uninitialized()
        return answer(self, *arguments)

    def _gpu_of(self, argument: Any) -> Any:
        """The GPU behind a handle; anything else as it is."""
        if isinstance(argument, pynvml.c_nvmlDevice_t):
            return self.gpus[ctypes.cast(argument, ctypes.c_void_p).value // _STEP - 1]
        return argument

    def _handle(self, index: int) -> Any:
        """Never looked into, so it may point anywhere."""
        return ctypes.cast(ctypes.c_void_p((index + 1) * _STEP), pynvml.c_nvmlDevice_t)

    def _nvmlInit(self) -> None:
        self.is_open = True
        self.num_opened += 1

    def _nvmlShutdown(self) -> None:
        self.is_open = False

    def _nvmlSystemGetDriverVersion(self) -> str:
        return "580.65.06"

    def _nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return 13_010

    def _nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def _nvmlDeviceGetHandleByIndex(self, index: int) -> Any:
        return self._handle(index)

    def _nvmlDeviceGetName(self, gpu: FakeGpu) -> str:
        return str(gpu["name"])

    def _nvmlDeviceGetUUID(self, gpu: FakeGpu) -> str:
        return str(gpu["uuid"])

    def _nvmlDeviceGetCudaComputeCapability(self, gpu: FakeGpu) -> tuple[int, int]:
        major, minor = gpu["compute_capability"]
        return major, minor

    def _nvmlDeviceGetMemoryInfo(self, gpu: FakeGpu) -> Any:
        used = gpu["total"] - gpu["free"]
        return pynvml.c_nvmlMemory_t(total=gpu["total"], free=gpu["free"], used=used)

    def _nvmlDeviceGetUtilizationRates(self, gpu: FakeGpu) -> Any:
        return pynvml.c_nvmlUtilization_t(gpu=gpu["gpu_percent"], memory=gpu["memory_percent"])

    def _nvmlDeviceGetTemperature(self, gpu: FakeGpu, sensor: int) -> int:
        assert sensor == pynvml.NVML_TEMPERATURE_GPU
        return int(gpu["temperature"])

    def _nvmlDeviceGetPowerUsage(self, gpu: FakeGpu) -> int:
        return int(gpu["milliwatts"])

    def _nvmlDeviceGetEnforcedPowerLimit(self, gpu: FakeGpu) -> int:
        return int(gpu["milliwatts_limit"])

    def _nvmlDeviceGetClockInfo(self, gpu: FakeGpu, kind: int) -> int:
        return int(gpu["clock_sm" if kind == pynvml.NVML_CLOCK_SM else "clock_memory"])

    def _nvmlDeviceGetMaxClockInfo(self, gpu: FakeGpu, kind: int) -> int:
        assert kind == pynvml.NVML_CLOCK_MEM
        return int(gpu["clock_memory"])

    def _nvmlDeviceGetMemoryBusWidth(self, gpu: FakeGpu) -> int:
        return int(gpu["bus_bits"])

    def _nvmlDeviceGetCurrentClocksThrottleReasons(self, gpu: FakeGpu) -> int:
        return int(gpu["throttle_bits"])

    def _nvmlDeviceGetTotalEccErrors(self, gpu: FakeGpu, kind: int, counter: int) -> int:
        assert counter == pynvml.NVML_VOLATILE_ECC
        return int(gpu["ecc"][kind])

    def _nvmlDeviceGetMigMode(self, gpu: FakeGpu) -> list[int]:
        return list(gpu["mig"])

    def _nvmlDeviceGetComputeRunningProcesses(self, gpu: FakeGpu) -> list[SimpleNamespace]:
        return list(gpu["processes"])

    def _nvmlEventSetCreate(self) -> object:
        self._registered.clear()
        return object()

    def _nvmlEventSetFree(self, event_set: object) -> None:
        self._registered.clear()

    def _nvmlDeviceRegisterEvents(self, gpu: FakeGpu, kinds: int, event_set: object) -> None:
        assert kinds == pynvml.nvmlEventTypeXidCriticalError
        self._registered.append(gpu)

    def _nvmlEventSetWait_v2(self, event_set: object, milliseconds: int) -> Any:
        assert milliseconds == 0, "reading waits for nothing"
        if not self._events:
            raise pynvml.NVMLError_Timeout()
        gpu, number = self._events.popleft()
        device = self._handle(self.gpus.index(gpu))
        return pynvml.c_nvmlEventData_t(device=device, eventData=number)
