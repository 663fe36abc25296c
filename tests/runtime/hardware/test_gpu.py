"""Readings of the GPUs: complete, with holes, and without a driver."""

from collections.abc import Iterator
from types import SimpleNamespace

import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.hardware.choice import spec_of
from runtime.hardware.gpu_table import find_gpu
from runtime.hardware.nvml import GpuReader
from runtime.hardware.readings import THROTTLE_REASONS, GpuReading, ProcessMemory
from tests.kit.fake_nvml import GIB, FakeGpu, FakeNvml

# What may be missing about a GPU, and the fields that are None then.
OPTIONAL = {
    "nvmlDeviceGetCudaComputeCapability": {"compute_capability"},
    "nvmlDeviceGetMemoryInfo": {"memory_total", "memory_used", "memory_free"},
    "nvmlDeviceGetUtilizationRates": {"utilization", "memory_utilization"},
    "nvmlDeviceGetTemperature": {"temperature"},
    "nvmlDeviceGetPowerUsage": {"power"},
    "nvmlDeviceGetEnforcedPowerLimit": {"power_limit"},
    "nvmlDeviceGetClockInfo": {"clock_sm", "clock_memory"},
    "nvmlDeviceGetMaxClockInfo": {"memory_bandwidth"},
    "nvmlDeviceGetMemoryBusWidth": {"memory_bandwidth"},
    "nvmlDeviceGetCurrentClocksThrottleReasons": {"throttle_reasons"},
    "nvmlDeviceGetTotalEccErrors": {"ecc_corrected", "ecc_uncorrected"},
    "nvmlDeviceGetMigMode": {"mig_enabled"},
    "nvmlDeviceGetComputeRunningProcesses": {"processes"},
}
NO_ANSWER = [
    pynvml.NVMLError_NotSupported,
    pynvml.NVMLError_NoPermission,
    pynvml.NVMLError_Unknown,
    pynvml.NVMLLibraryMismatchError,
]
GONE = [
    pynvml.NVMLError_Uninitialized,
    pynvml.NVMLError_DriverNotLoaded,
    pynvml.NVMLError_LibRmVersionMismatch,
]


def one(nvml: FakeNvml) -> GpuReading:
    snapshot = GpuReader(nvml).read()
    assert snapshot.problem == ""
    (gpu,) = snapshot.gpus
    return gpu


def missing(gpu: GpuReading) -> set[str]:
    return {name for name in gpu.__struct_fields__ if getattr(gpu, name) is None}


def test_a_reading_has_everything_in_its_units() -> None:
    gpu = FakeGpu(uuid="GPU-1")
    snapshot = GpuReader(FakeNvml([gpu])).read()
    assert (snapshot.driver_version, snapshot.cuda_version) == ("580.65.06", "13.1")
    assert snapshot.gpus == (
        GpuReading(
            index=0,
            name="NVIDIA GeForce RTX 4070",
            uuid="GPU-1",
            compute_capability="8.9",
            memory_total=12 * GIB,
            memory_used=8 * GIB,
            memory_free=4 * GIB,
            memory_bandwidth=504.048e9,
            utilization=0.8,
            memory_utilization=0.4,
            temperature=65,
            power=180.5,
            power_limit=200.0,
            clock_sm=2475,
            clock_memory=10_501,
            throttle_reasons=("sw_power_cap", "hw_thermal_slowdown"),
            ecc_corrected=3,
            ecc_uncorrected=1,
            processes=(ProcessMemory(4711, 7 * GIB),),
            mig_enabled=False,
        ),
    )


@pytest.mark.parametrize("function", OPTIONAL)
@pytest.mark.parametrize("error", NO_ANSWER)
def test_what_the_driver_does_not_tell_is_none_and_nothing_else(
    function: str, error: type[Exception]
) -> None:
    nvml = FakeNvml([FakeGpu()])
    nvml.fail(function, error)
    assert missing(one(nvml)) == OPTIONAL[function]


@given(st.sets(st.sampled_from(sorted(OPTIONAL))))
def test_any_holes_at_once(functions: set[str]) -> None:
    nvml = FakeNvml([FakeGpu()])
    for function in functions:
        nvml.fail(function, pynvml.NVMLError_NotSupported)
    assert missing(one(nvml)) == set().union(*(OPTIONAL[name] for name in functions))


def test_the_fake_knows_every_optional_call() -> None:
    """Without that the two tests above would prove nothing."""
    assert missing(one(FakeNvml([FakeGpu()]))) == set()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (pynvml.NVMLError_LibraryNotFound, "no NVIDIA driver on this machine"),
        (pynvml.NVMLError_DriverNotLoaded, "no NVIDIA driver on this machine"),
        (pynvml.NVMLError_LibRmVersionMismatch, "the NVIDIA driver cannot be used: "),
        (pynvml.NVMLError_NoPermission, "the NVIDIA driver cannot be used: "),
    ],
)
def test_without_a_driver_there_is_a_reason(error: type[Exception], reason: str) -> None:
    nvml = FakeNvml()
    nvml.fail("nvmlInit", error)
    snapshot = GpuReader(nvml).read()
    assert snapshot.gpus == ()
    assert snapshot.problem.startswith(reason)


def test_without_a_gpu_there_is_no_problem() -> None:
    snapshot = GpuReader(FakeNvml()).read()
    assert (snapshot.gpus, snapshot.problem) == ((), "")


@pytest.mark.parametrize("error", GONE)
def test_a_driver_that_goes_and_comes_back(error: type[Exception]) -> None:
    nvml = FakeNvml([FakeGpu()])
    reader = GpuReader(nvml)
    assert len(reader.read().gpus) == 1

    nvml.fail("every", error)
    assert reader.read().problem
    assert reader.read().problem

    nvml.heal()
    nvml.gpus.append(FakeGpu())
    assert [gpu.index for gpu in reader.read().gpus] == [0, 1]
    reader.close()
    assert not nvml.is_open


@pytest.mark.parametrize("error", [pynvml.NVMLError_GpuIsLost, pynvml.NVMLError_ResetRequired])
def test_a_lost_gpu_does_not_hide_the_others(error: type[Exception]) -> None:
    lost, healthy = FakeGpu(uuid="GPU-0"), FakeGpu(uuid="GPU-1")
    nvml = FakeNvml([lost, healthy])
    reader = GpuReader(nvml)
    reader.read()
    nvml.xid(lost, 79)
    nvml.fail("every", error, lost)
    for _ in range(2):  # the second time it cannot even be opened
        first, second = reader.read().gpus
        assert first.problem.startswith("the driver cannot reach this GPU")
        assert first.memory_free is None
        assert second.memory_free == 4 * GIB
    nvml.heal()
    first, second = reader.read().gpus
    assert (first.problem, first.memory_free) == ("", 4 * GIB)
    assert first.xids == {79: 1}


def test_xids_are_counted_by_gpu_and_number() -> None:
    left, right = FakeGpu(), FakeGpu()
    nvml = FakeNvml([left, right])
    reader = GpuReader(nvml)
    assert [gpu.xids for gpu in reader.read().gpus] == [{}, {}]
    for gpu, number in ((left, 13), (right, 31), (left, 13), (left, 43)):
        nvml.xid(gpu, number)
    assert [gpu.xids for gpu in reader.read().gpus] == [{13: 2, 43: 1}, {31: 1}]
    nvml.xid(right, 31)
    assert [gpu.xids for gpu in reader.read().gpus] == [{13: 2, 43: 1}, {31: 2}]


@pytest.mark.parametrize(
    "function", ["nvmlEventSetCreate", "nvmlDeviceRegisterEvents", "nvmlEventSetWait_v2"]
)
@pytest.mark.parametrize("error", [pynvml.NVMLError_NotSupported, pynvml.NVMLError_NoPermission])
def test_without_events_the_rest_is_read(function: str, error: type[Exception]) -> None:
    nvml = FakeNvml([FakeGpu()])
    nvml.fail(function, error)
    reader = GpuReader(nvml)
    for _ in range(2):
        (gpu,) = reader.read().gpus
        assert missing(gpu) == set()
        assert gpu.xids == {}


def test_a_divided_gpu_says_so() -> None:
    nvml = FakeNvml([FakeGpu(mig=[1, 1])])
    nvml.fail("nvmlDeviceGetUtilizationRates", pynvml.NVMLError_NotSupported)
    gpu = one(nvml)
    assert gpu.mig_enabled is True
    assert gpu.utilization is None


def test_processes_whose_memory_is_a_secret() -> None:
    hidden = SimpleNamespace(pid=1, usedGpuMemory=None)
    assert one(FakeNvml([FakeGpu(processes=[hidden])])).processes == (ProcessMemory(1, None),)


def test_throttle_reasons_are_those_of_the_library() -> None:
    def plain(name: str) -> str:
        return name.replace("_", "").lower()

    prefix = "nvmlClocksThrottleReason"
    known = {
        plain(name.removeprefix(prefix)): value
        for name, value in vars(pynvml).items()
        if name.startswith(prefix)
    }
    for name, bit in THROTTLE_REASONS.items():
        assert known[plain(name)] == bit


def test_the_figures_of_a_known_gpu_with_its_real_memory() -> None:
    spec = spec_of(one(FakeNvml([FakeGpu(total=12_282 << 20)])))
    known = find_gpu("rtx-4070")
    assert spec is not None
    assert (spec.name, spec.bandwidth, spec.fp8_flops) == ("rtx-4070", 504.2e9, known.fp8_flops)
    assert spec.memory_bytes == 12_282 << 20


def test_an_unknown_gpu_is_described_by_its_driver() -> None:
    gpu = FakeGpu(
        "NVIDIA GeForce RTX 4070 Laptop GPU", total=8 * GIB, clock_memory=8001, bus_bits=128
    )
    spec = spec_of(one(FakeNvml([gpu])))
    assert spec is not None
    assert spec.name == "NVIDIA GeForce RTX 4070 Laptop GPU"
    assert spec.bandwidth == pytest.approx(256e9, rel=1e-3)
    assert (spec.compute_capability, spec.fp16_flops) == ((8, 9), None)


@pytest.mark.parametrize(
    "function", ["nvmlDeviceGetMemoryInfo", "nvmlDeviceGetCudaComputeCapability"]
)
def test_too_little_known_is_no_spec(function: str) -> None:
    nvml = FakeNvml([FakeGpu()])
    nvml.fail(function, pynvml.NVMLError_NotSupported)
    assert spec_of(one(nvml)) is None


@pytest.fixture
def real_reader() -> Iterator[GpuReader]:
    reader = GpuReader()
    yield reader
    reader.close()


def test_the_real_library_never_raises(real_reader: GpuReader) -> None:
    """With whatever driver this machine has, or has not."""
    snapshot = real_reader.read()
    assert bool(snapshot.problem) != bool(snapshot.driver_version)
