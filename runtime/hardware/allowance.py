"""How much of this machine the process may use: the lowest of what the machine has, what control
groups leave, and what limits of the process (`ulimit`) leave."""

import math
import os
import sys
from pathlib import Path

import psutil
from msgspec import Struct

from runtime.hardware.control_groups import ROOT, ControlGroups, CpuQuota, MemoryLimit

MACHINE = "the machine"


class CoreAllowance(Struct, frozen=True, kw_only=True):
    """The cores that the process may use. `usable` are those that it may run on, and `quota` is the
    processor time that it may use, in cores; `quota_source` is the file that says so. Without a
    quota they are None and ""."""

    physical: int
    usable: int
    quota: float | None = None
    quota_source: str = ""

    @property
    def num_threads(self) -> int:
        """How many threads get on without waiting for each other: a thread for each physical core
        that is usable, and no more than the quota carries. At least 1."""
        quota = self.usable if self.quota is None else math.floor(self.quota)
        return max(1, min(self.usable, self.physical or self.usable, quota))


class MemoryAllowance(Struct, frozen=True, kw_only=True):
    """The memory that the process may use, in bytes: `total` is the lowest limit, and `available`
    is the least that a limit leaves now. The sources say where the numbers come from."""

    total: int
    total_source: str
    available: int
    available_source: str


def cores_allowed(root: Path = ROOT) -> CoreAllowance:
    """The cores that this process may use. `root` is where `/proc` and `/sys` are."""
    lowest = min(ControlGroups(root).cpu_quotas(), key=_cores, default=None)
    return CoreAllowance(
        physical=psutil.cpu_count(logical=False) or 0,
        usable=_usable_cores(),
        quota=lowest.cores if lowest is not None else None,
        quota_source=lowest.source if lowest is not None else "",
    )


def memory_allowed(root: Path = ROOT) -> MemoryAllowance:
    """The memory that this process may use. `root` is where `/proc` and `/sys` are."""
    machine = psutil.virtual_memory()
    limits = [
        MemoryLimit(machine.total, machine.available, MACHINE),
        *ControlGroups(root).memory(),
        *_process_limits(),
    ]
    total = min(limits, key=lambda limit: limit.limit)
    available = min(limits, key=lambda limit: limit.available)
    return MemoryAllowance(
        total=total.limit,
        total_source=total.source,
        available=available.available,
        available_source=available.source,
    )


def _cores(quota: CpuQuota) -> float:
    return quota.cores


def _usable_cores() -> int:
    if sys.platform == "linux":  # the control group's cpuset is in it
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _process_limits() -> list[MemoryLimit]:
    """Limits of address space and data, which only Linux enforces for everything that is
    allocated."""
    if sys.platform != "linux":
        return []
    import resource

    used = psutil.Process().memory_info()
    kinds = (
        (resource.RLIMIT_AS, used.vms, "ulimit -v"),
        (resource.RLIMIT_DATA, used.data, "ulimit -d"),
    )
    limits = [(resource.getrlimit(kind)[0], size, name) for kind, size, name in kinds]
    return [
        MemoryLimit(limit, max(limit - size, 0), name)
        for limit, size, name in limits
        if limit != resource.RLIM_INFINITY
    ]
