"""CPU time and memory of this process, and of an engine with all its descendants."""

from collections.abc import Iterable

import psutil
from msgspec import Struct


class ProcessUsage(Struct, frozen=True):
    """CPU time in seconds, user and system; resident memory in bytes."""

    cpu_seconds: float
    memory_bytes: int


def own_usage() -> ProcessUsage:
    """Usage of this process alone."""
    return _sum([psutil.Process()])


def usage_of_tree(pid: int) -> ProcessUsage | None:
    """Usage of a process and its descendants; None if the process is gone. Reads all processes of
    the machine, which takes milliseconds. Shared memory counts once for each process."""
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
