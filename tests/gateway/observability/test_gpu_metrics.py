"""GPUs in the metrics."""

import pynvml

from gateway.observability.metrics.server import Metrics
from runtime.hardware.gpu_monitor import GpuMonitor
from runtime.hardware.nvml import GpuReader
from tests.kit.fake_nvml import FakeGpu, FakeNvml
from tests.kit.shown_metrics import Shown, text_of


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
