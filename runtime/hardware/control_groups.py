"""The limits of the control groups that this process is in, as containers and services set them.

Both versions of control groups are read, also side by side. A limit of a group holds for all groups
below it, so every ancestor that can be seen counts. Elsewhere than on Linux nothing is found.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from msgspec import Struct

ROOT = Path("/")

_MOUNT = re.compile(r"^\d+ \d+ \S+ (\S+) (\S+) .* - (cgroup2?) \S+ (\S+)$", re.MULTILINE)
_ESCAPE = re.compile(r"\\([0-7]{3})")


class CpuQuota(Struct, frozen=True):
    """The processor time that a group may use, in cores, and the file that says so."""

    cores: float
    source: str


class MemoryLimit(Struct, frozen=True):
    """A limit of memory in bytes, what is left of it, and where it comes from. Cached files count
    as left, because the kernel drops them when memory is needed."""

    limit: int
    available: int
    source: str


class _Group(Struct, frozen=True):
    """A group's folder, and the version of its interface."""

    folder: Path
    version: int


class ControlGroups:
    """The groups of this process. `root` is where `/proc` and `/sys` are."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root

    def cpu_quotas(self) -> list[CpuQuota]:
        """Every quota that holds; empty if there is none."""
        quotas = (_cpu_quota(group) for group in self._groups("cpu"))
        return [quota for quota in quotas if quota is not None]

    def memory(self) -> list[MemoryLimit]:
        """Every limit of memory that holds; empty if there is none."""
        return [limit for group in self._groups("memory") for limit in _memory_limits(group)]

    def _groups(self, controller: str) -> Iterator[_Group]:
        """The groups of this process that a controller may limit, each followed by its
        ancestors."""
        paths = _paths(_read(self._root / "proc/self/cgroup"))
        for mount in _MOUNT.finditer(_read(self._root / "proc/self/mountinfo")):
            top, point, kind, options = (_unescaped(field) for field in mount.groups())
            if kind == "cgroup" and controller not in options.split(","):
                continue
            path = paths.get("" if kind == "cgroup2" else controller)
            if path is None:
                continue
            mounted = self._root / point.lstrip("/")
            for below in _lineage(_below(path, top)):
                yield _Group(mounted / below, 2 if kind == "cgroup2" else 1)


def _paths(text: str) -> dict[str, str]:
    """The path of this process's group for each controller; "" is version 2."""
    paths = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            paths[controller] = path
    return paths


def _below(path: str, top: str) -> PurePosixPath:
    """A group's path as seen from the mounted group `top`. A group outside of what is mounted is
    the mounted one: a container often sees its own group alone, under the name that it has
    outside."""
    group = PurePosixPath(path)
    if ".." in group.parts or not group.is_relative_to(top):
        return PurePosixPath()
    return group.relative_to(top)


def _lineage(path: PurePosixPath) -> list[PurePosixPath]:
    return [path, *path.parents]


def _cpu_quota(group: _Group) -> CpuQuota | None:
    if group.version == 2:
        file = group.folder / "cpu.max"
        quota, period = (*_numbers(_read(file)), None, None)[:2]
    else:
        file = group.folder / "cpu.cfs_quota_us"
        quota, period = _number(file), _number(group.folder / "cpu.cfs_period_us")
    if quota is None or not period or quota <= 0:
        return None
    return CpuQuota(quota / period, str(file))


def _memory_limits(group: _Group) -> list[MemoryLimit]:
    folder = group.folder
    statistics = _statistics(folder / "memory.stat")
    if group.version == 2:
        used = _number(folder / "memory.current")
        limits = {name: _number(folder / name) for name in ("memory.max", "memory.high")}
    else:
        used = _number(folder / "memory.usage_in_bytes")
        limits = {"memory.limit_in_bytes": _number(folder / "memory.limit_in_bytes")}
        # that of ancestors which a container cannot see
        limits["memory.stat"] = statistics.get("hierarchical_memory_limit")
    needed = max((used or 0) - _reclaimable(statistics), 0)
    return [
        MemoryLimit(limit, max(limit - needed, 0), str(folder / name))
        for name, limit in limits.items()
        if limit is not None
    ]


def _reclaimable(statistics: Mapping[str, int]) -> int:
    """Bytes that the kernel can take back: the pages of files, and caches of its own. The totals of
    version 1 include the groups below, as all numbers of version 2 do."""
    names = ("inactive_file", "active_file", "slab_reclaimable")
    return sum(statistics.get(f"total_{name}", statistics.get(name, 0)) for name in names)


def _statistics(file: Path) -> dict[str, int]:
    pairs = (line.partition(" ") for line in _read(file).splitlines())
    return {name: int(number) for name, _, number in pairs if number.isdecimal()}


def _number(file: Path) -> int | None:
    """The first number of a file; None for "max", and if there is no such file."""
    return next(iter(_numbers(_read(file))), None)


def _numbers(text: str) -> list[int | None]:
    return [int(word) if re.fullmatch(r"-?\d+", word) else None for word in text.split()]


def _read(file: Path) -> str:
    """The content of a file; empty where there is none, as on other systems than Linux."""
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def _unescaped(field: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), field)
