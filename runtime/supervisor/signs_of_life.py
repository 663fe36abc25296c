"""What the system knows of a process that says nothing: whether it works."""

import contextlib

import psutil
from msgspec import Struct

from runtime.processes import descendants

MIN_CPU_SHARE = 0.05
"""Share of one processor. Less may be threads that only look whether there is work."""

MIN_GPU_BYTES = 16_777_216
"""Growth or loss of GPU memory. Less may be another program's."""

MIN_BYTES = 65_536
"""Bytes read and written between two looks. Fewer may be heartbeats."""


class Signs(Struct, frozen=True, kw_only=True):
    """What a process and those that it has started have used so far. `time` is when that was read,
    on any clock in seconds. `num_bytes` were read and written, 0 where the system does not say.
    `num_lines` counts pieces of what it wrote to its standard streams. `gpu_bytes` is the memory in
    use on all GPUs, whoever uses it, 0 without one."""

    time: float
    pids: frozenset[int]
    cpu_seconds: float
    num_bytes: int
    num_lines: int = 0
    gpu_bytes: int = 0

    def shows_news(self, earlier: "Signs") -> bool:
        """Whether processes have come or gone, something was written, or data has moved."""
        return (
            self.pids != earlier.pids
            or self.num_lines != earlier.num_lines
            or self.num_bytes - earlier.num_bytes >= MIN_BYTES
            or abs(self.gpu_bytes - earlier.gpu_bytes) >= MIN_GPU_BYTES
        )

    def shows_work(self, earlier: "Signs") -> bool:
        """Whether processors were at work."""
        seconds = self.time - earlier.time
        return self.cpu_seconds - earlier.cpu_seconds >= MIN_CPU_SHARE * seconds


def read_signs(pid: int, now: float) -> Signs:
    """The signs at the time `now`. Looks at every process of the machine: call it in a thread."""
    alive: set[int] = set()
    cpu_seconds, num_bytes = 0.0, 0
    for process in _tree(pid):
        with contextlib.suppress(psutil.Error, OSError):
            times = process.cpu_times()
            cpu_seconds += times.user + times.system
            num_bytes += _bytes_moved(process)
            alive.add(process.pid)
    return Signs(time=now, pids=frozenset(alive), cpu_seconds=cpu_seconds, num_bytes=num_bytes)


def _tree(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [psutil.Process(pid), *descendants(pid)]
    return []


def _bytes_moved(process: psutil.Process) -> int:
    """All reads and writes, and what was read from disks, which counts mapped files too."""
    if not hasattr(process, "io_counters"):  # macOS
        return 0
    counters = process.io_counters()
    through_calls = getattr(counters, "read_chars", 0) + getattr(counters, "write_chars", 0)
    return int(through_calls + counters.read_bytes + counters.write_bytes)
