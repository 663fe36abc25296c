"""The monitor and the guard: what they let in, what they log, how they end."""

import threading
import time

import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from runtime.errors import GpuMemoryPressure
from runtime.hardware.gpu_monitor import GpuMonitor
from runtime.hardware.memory_guard import AUTO_MIN_FREE_BYTES, MemoryGuard
from runtime.hardware.nvml import GpuReader
from runtime.hardware.readings import GpuReading, GpuSnapshot
from tests.kit.fake_nvml import GIB, FakeGpu, FakeNvml
from tests.kit.serving import wait_for

GB = 1_000_000_000


def snapshot(*free: int | None) -> GpuSnapshot:
    gpus = tuple(
        GpuReading(index=index, name="A GPU", uuid=f"GPU-{index}", memory_free=each)
        for index, each in enumerate(free)
    )
    return GpuSnapshot(time=time.monotonic(), gpus=gpus)


def monitor(min_free_bytes: int | None = GB, **options: object) -> GpuMonitor:
    return GpuMonitor(interval=60, min_free_bytes=min_free_bytes, **options)


def test_too_little_free_memory_lets_nothing_in() -> None:
    watching = monitor()
    watching.check_memory()
    watching.update(snapshot(GB - 1))
    with pytest.raises(GpuMemoryPressure) as caught:
        watching.check_memory()
    assert caught.value.retry_after == 5
    assert str(caught.value) == (
        "GPU memory is nearly used up: 1.00 GB are free, and 1.00 GB have to be"
        " (gpu.min_free_memory_gb)."
    )


def test_it_opens_again_a_quarter_higher() -> None:
    watching = monitor()
    for free, closed in ((GB, False), (GB - 1, True), (GB, True), (1.25 * GB, False), (GB, False)):
        watching.update(snapshot(int(free)))
        assert watching.under_pressure == closed


def test_another_minimum_holds_from_the_next_reading() -> None:
    watching = monitor(GB)
    watching.update(snapshot(GB, 3 * GB))
    watching.use(interval=30, min_free_bytes=2 * GB, devices=[])
    watching.update(snapshot(GB, 3 * GB))
    assert watching.under_pressure
    watching.use(interval=30, min_free_bytes=2 * GB, devices=[1])
    watching.update(snapshot(GB, 3 * GB))
    assert not watching.under_pressure
    watching.use(interval=30, min_free_bytes=None, devices=[])
    watching.update(snapshot(GB // 10, 3 * GB))
    assert not watching.under_pressure
    watching.update(snapshot(GB // 30, 3 * GB))
    assert watching.under_pressure


def test_a_monitor_with_another_interval_reads_at_once() -> None:
    nvml = FakeNvml()
    watching = GpuMonitor(interval=3600, reader=GpuReader(nvml))
    watching.start()
    try:
        wait_for(lambda: watching.snapshot.time > 0)
        before = watching.snapshot.time
        watching.use(interval=0.001, min_free_bytes=0, devices=[])
        wait_for(lambda: watching.snapshot.time > before)
        after = watching.snapshot.time
        wait_for(lambda: watching.snapshot.time > after)
    finally:
        watching.stop()


@given(st.integers(1, GB), st.lists(st.integers(0, 2 * GB)))
def test_the_guard_changes_only_outside_its_two_limits(limit: int, readings: list[int]) -> None:
    guard = MemoryGuard(limit)
    for free in readings:
        before = guard.is_closed
        guard.update([free])
        if free < limit:
            assert guard.is_closed
        elif free >= 1.25 * limit:
            assert not guard.is_closed
        else:
            assert guard.is_closed == before


@given(st.lists(st.integers(0, 2 * GB)))
def test_a_guard_that_is_off_never_closes(readings: list[int]) -> None:
    guard = MemoryGuard(0)
    guard.calibrate(readings)
    guard.update(readings)
    assert not guard.is_closed


@given(st.lists(st.integers(0, 4 * GB), min_size=1))
def test_what_an_engine_leaves_free_is_never_too_little(free: list[int]) -> None:
    """However full the engine fills the memory, and even from a closed guard."""
    guard = MemoryGuard(None)
    guard.update([0])
    assert not guard.is_closed
    guard.calibrate(free)
    assert guard.min_free_bytes <= AUTO_MIN_FREE_BYTES
    guard.update([max(guard.min_free_bytes - 1, 0)])
    guard.update(free)
    assert not guard.is_closed or min(free) == 0


def test_auto_begins_when_the_engine_has_loaded() -> None:
    watching = monitor(None)
    watching.update(snapshot(GB // 100))
    assert not watching.under_pressure
    watching.engine_loaded()
    watching.update(snapshot(GB // 10))
    assert not watching.under_pressure
    watching.update(snapshot(GB // 20 - 1))
    assert watching.under_pressure


@pytest.mark.parametrize("nothing", [snapshot(), snapshot(None), GpuSnapshot(problem="gone")])
def test_what_is_not_known_is_no_pressure(nothing: GpuSnapshot) -> None:
    watching = monitor()
    watching.update(snapshot(0))
    assert watching.under_pressure
    watching.update(nothing)
    watching.check_memory()


def test_an_old_reading_is_no_pressure(monkeypatch: pytest.MonkeyPatch) -> None:
    watching = monitor()
    watching.update(snapshot(0))
    now = time.monotonic()
    for seconds, closed in ((299, True), (301, False)):
        monkeypatch.setattr(
            "runtime.hardware.gpu_monitor.time.monotonic", lambda s=seconds: now + s
        )
        assert watching.under_pressure == closed
        assert bool(watching.pressure_reason) == closed


@pytest.mark.parametrize(
    ("devices", "variable", "closed"),
    [
        ([], "", True),
        ([0], "", False),
        ([1], "", True),
        ([], "0", False),
        ([], "0,1", True),
        ([], "GPU-1", True),
        ([], "GPU-0", False),
        ([], "nonsense", True),
        ([1], "0", True),
    ],
)
def test_only_the_gpus_in_use_count(
    monkeypatch: pytest.MonkeyPatch, devices: list[int], variable: str, closed: bool
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    watching = monitor(devices=devices)
    watching.update(snapshot(8 * GB, 0))
    assert watching.under_pressure == closed


def test_one_line_for_each_change() -> None:
    watching, gpu = monitor(), FakeGpu()
    nvml = FakeNvml([gpu])
    reader = GpuReader(nvml)
    with capture_logs() as lines:
        for _ in range(3):
            watching.update(reader.read())
        gpu["free"] = 0
        for _ in range(3):
            watching.update(reader.read())
        nvml.xid(gpu, 31)
        for _ in range(3):
            watching.update(reader.read())
        nvml.fail("every", pynvml.NVMLError_GpuIsLost, gpu)
        for _ in range(3):
            watching.update(reader.read())
        nvml.fail("every", pynvml.NVMLError_DriverNotLoaded)
        for _ in range(3):
            watching.update(reader.read())
    assert [line["event"] for line in lines] == [
        "gpu_monitor_sees",
        "gpu_memory_pressure",
        "gpu_xid",
        "gpu_lost",
        "gpu_memory_pressure_over",
        "gpu_monitor_has_nothing",
    ]
    assert [line.get("xid") for line in lines][2] == 31


def test_the_thread_reads_until_it_is_stopped() -> None:
    gpu = FakeGpu()
    nvml = FakeNvml([gpu])
    watching = GpuMonitor(interval=0.001, min_free_bytes=GIB, reader=GpuReader(nvml))
    watching.start()
    try:
        wait_for(lambda: bool(watching.snapshot.gpus))
        gpu["free"] = 0
        wait_for(lambda: watching.snapshot.gpus[0].memory_free == 0)
    finally:
        watching.stop()
    assert not nvml.is_open
    assert "gpu-monitor" not in [thread.name for thread in threading.enumerate()]


class Stuck(GpuReader):
    """A driver that does not come back."""

    def __init__(self, release: threading.Event) -> None:
        super().__init__(FakeNvml())
        self.entered = threading.Event()
        self._release = release

    def read(self) -> GpuSnapshot:
        self.entered.set()
        self._release.wait()
        return super().read()


def test_a_driver_that_blocks_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.hardware.gpu_monitor._STOP_SECONDS", 0.01)
    release = threading.Event()
    reader = Stuck(release)
    watching = GpuMonitor(interval=60, reader=reader)
    watching.start()
    assert reader.entered.wait(10)
    watching.stop()
    thread = next(each for each in threading.enumerate() if each.name == "gpu-monitor")
    assert thread.daemon
    release.set()
    thread.join(10)
    assert not thread.is_alive()


class Broken(GpuReader):
    """Fails with what NVML never raises, and counts how often."""

    num_reads = 0

    def read(self) -> GpuSnapshot:
        self.num_reads += 1
        raise ZeroDivisionError


def test_a_mistake_is_logged_once_and_reading_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Broken()
    watching = GpuMonitor(interval=0.0001, reader=reader)
    with capture_logs() as lines:
        watching.start()
        wait_for(lambda: reader.num_reads > 3)
        watching.stop()
    assert watching.snapshot.problem == "reading the GPUs failed"
    assert [line["event"] for line in lines].count("gpu_monitor_failed") == 1
