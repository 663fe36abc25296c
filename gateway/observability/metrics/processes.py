"""What processes use: CPU time and memory, of this one and of an engine with all it has started."""

from collections.abc import Iterable

import psutil
from msgspec import Struct


class ProcessUsage(Struct, frozen=True):
    """CPU time in seconds, user and system; resident memory in bytes."""

    cpu_seconds: float
    memory_bytes: int


def own_usage() -> ProcessUsage:
    """Of this process alone."""
    return _sum([psutil.Process()])


def usage_of_tree(pid: int) -> ProcessUsage | None:
    """Of a process and its descendants; None when it is gone. Looks at all processes of the
    machine, which takes milliseconds. Memory that they share counts once for each."""
    try:
        process = psutil.Process(pid)
        return _sum([process, *process.children(recursive=True)])
    except psutil.Error:
        return None


def _sum(processes: Iterable[psutil.Process]) -> ProcessUsage:
    cpu_seconds, memory_bytes = 0.0, 0
    for process in processes:
        try:
            with process.oneshot():
                times = process.cpu_times()
                memory_bytes += process.memory_info().rss
                cpu_seconds += times.user + times.system
        except psutil.NoSuchProcess:
            continue  # it has ended since it was listed
    return ProcessUsage(cpu_seconds, memory_bytes)
