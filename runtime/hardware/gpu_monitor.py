"""Reads the GPUs while the server runs, and reports when their memory is nearly used up."""

import threading
import time
from collections.abc import Sequence

import structlog

from runtime.errors import GpuMemoryPressure
from runtime.hardware.choice import visible_gpus
from runtime.hardware.memory_guard import MemoryGuard
from runtime.hardware.nvml import GpuReader
from runtime.hardware.readings import GpuReading, GpuSnapshot

log = structlog.get_logger(__name__)

RETRY_SECONDS = 5.0
"""Retry delay, in seconds, for a request that is refused because GPU memory is short."""

STALE_INTERVALS = 5
"""Number of intervals after which a reading is too old to refuse requests."""

PROBLEM_INTERVALS = 15
"""Number of intervals between two readings while the driver is missing or does not answer."""

_STOP_SECONDS = 1.0


class GpuMonitor:
    """Reads the GPUs every `interval` seconds in a thread of its own, so that a driver that blocks
    delays neither requests nor the end of the server.

    `min_free_bytes` is the memory that must stay free on each GPU of `devices`. With 0 nothing is
    checked; with None the guard chooses when the engine has loaded (`MemoryGuard`). Devices are
    numbered as in `nvidia-smi`; empty means those of CUDA_VISIBLE_DEVICES, else all. `snapshot` is
    the last reading; before the first one, it is empty and has this `problem`.
    """

    def __init__(
        self,
        *,
        interval: float,
        min_free_bytes: int | None = 0,
        devices: Sequence[int] = (),
        reader: GpuReader | None = None,
        problem: str = "the GPUs have not been read yet",
    ) -> None:
        self.snapshot = GpuSnapshot(problem=problem)
        self._interval = interval
        self._devices = tuple(devices)
        self._reader = reader or GpuReader()
        self._min_free_bytes = min_free_bytes
        self._guard = MemoryGuard(min_free_bytes)
        self._engine_is_new = False
        self._is_stopping = False
        self._wakes = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def age(self) -> float:
        """Seconds since the last reading. Before the first one, it is the time of the monotonic
        clock."""
        return time.monotonic() - self.snapshot.time

    @property
    def under_pressure(self) -> bool:
        """Whether too little memory is free. False if the last reading is too old."""
        return self._guard.is_closed and self.age < STALE_INTERVALS * self._interval

    def start(self) -> None:
        """Starts the thread. Returns at once."""
        assert self._thread is None, "monitor started twice: this is a bug"
        self._thread = threading.Thread(target=self._watch, name="gpu-monitor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, or abandons it if the driver blocks it."""
        self._is_stopping = True
        self._wakes.set()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)

    def engine_loaded(self) -> None:
        """Tells the monitor that an engine has allocated its memory: the next reading sets the
        guard."""
        self._engine_is_new = True

    def use(self, *, interval: float, min_free_bytes: int | None, devices: Sequence[int]) -> None:
        """Changes what `__init__` was given, with a reading at once. Where the guard is to choose,
        it chooses by the memory that is free now."""
        if min_free_bytes != self._min_free_bytes:
            self._min_free_bytes, self._guard = min_free_bytes, MemoryGuard(min_free_bytes)
            self._engine_is_new = min_free_bytes is None
        self._interval, self._devices = interval, tuple(devices)
        self._wakes.set()

    def check_memory(self) -> None:
        """Raises GpuMemoryPressure while too little memory is free."""
        if self.under_pressure:
            raise GpuMemoryPressure(self.pressure_reason, retry_after=RETRY_SECONDS)

    @property
    def pressure_reason(self) -> str:
        """Why requests are refused, as a sentence; empty while they are accepted."""
        if not self.under_pressure:
            return ""
        free = min(self._free(self.snapshot.gpus), default=0)
        return (
            f"GPU memory is nearly used up: {free / 1e9:.2f} GB are free, and"
            f" {self._guard.min_free_bytes / 1e9:.2f} GB have to be (gpu.min_free_memory_gb)."
        )

    def update(self, snapshot: GpuSnapshot) -> None:
        """Stores a reading and updates the guard. The thread changes the monitor's state only
        here."""
        before, was_closed = self.snapshot, self._guard.is_closed
        free = self._free(snapshot.gpus)
        if self._engine_is_new and free:
            self._engine_is_new = False
            self._guard.calibrate(free)
        self._guard.update(free)
        self.snapshot = snapshot
        self._report(before, was_closed)

    def _watch(self) -> None:
        problem = False
        while True:
            try:
                self.update(self._reader.read())
            except Exception:
                # not an error of the driver but a bug here, which must not end the monitor
                if not problem:
                    log.exception("gpu_monitor_failed")
                self.update(GpuSnapshot(time=time.monotonic(), problem="reading the GPUs failed"))
            problem = bool(self.snapshot.problem)
            self._wakes.wait(self._interval * (PROBLEM_INTERVALS if problem else 1))
            self._wakes.clear()
            if self._is_stopping:
                self._reader.close()
                return

    def _free(self, gpus: Sequence[GpuReading]) -> list[int]:
        wanted = self._devices or {gpu.index for gpu in visible_gpus(gpus)}
        return [
            gpu.memory_free for gpu in gpus if gpu.index in wanted and gpu.memory_free is not None
        ]

    def _report(self, before: GpuSnapshot, was_closed: bool) -> None:
        """Logs a line for each change since the reading `before`."""
        now = self.snapshot
        if now.problem != before.problem:
            if now.problem:
                log.info("gpu_monitor_has_nothing", reason=now.problem)
            else:
                names = [gpu.name for gpu in now.gpus]
                log.info("gpu_monitor_sees", gpus=names, driver=now.driver_version)
        lost_before = {gpu.index for gpu in before.gpus if gpu.problem}
        for gpu in now.gpus:
            if gpu.problem and gpu.index not in lost_before:
                log.error("gpu_lost", index=gpu.index, reason=gpu.problem)
        self._report_xids(before)
        if self._guard.is_closed != was_closed:
            event = "gpu_memory_pressure" if self._guard.is_closed else "gpu_memory_pressure_over"
            log.warning(event, free=self._free(now.gpus), min_free=self._guard.min_free_bytes)

    def _report_xids(self, before: GpuSnapshot) -> None:
        known = {gpu.index: gpu.xids for gpu in before.gpus}
        for gpu in self.snapshot.gpus:
            for xid, count in gpu.xids.items():
                if count > known.get(gpu.index, {}).get(xid, 0):
                    log.error("gpu_xid", index=gpu.index, xid=xid, count=count)
