"""What may be used of the machine, on trees of /proc and /sys as containers see them."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.hardware.allowance import (
    MACHINE,
    CoreAllowance,
    MemoryAllowance,
    cores_allowed,
    memory_allowed,
)
from runtime.hardware.control_groups import ControlGroups

V2 = "30 23 0:26 {root} {point} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = "3{id} 31 0:3{id} {root} /sys/fs/cgroup/{name} rw - cgroup cgroup rw,{name}"
MB = 10**6
UNLIMITED_V1 = 9223372036854771712


class Tree:
    """A root folder with the files that a process sees of its control groups."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def process(self, groups: str, *mounts: str) -> None:
        self.write("proc/self/cgroup", groups)
        self.write("proc/self/mountinfo", "".join(f"{mount}\n" for mount in mounts))

    def write(self, path: str, content: object) -> str:
        file = self.folder / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{content}\n")
        return str(file)

    def v2(self, path: str, *, root: str = "/") -> None:
        self.process(f"0::{path}", V2.format(root=root, point="/sys/fs/cgroup"))

    def v1(self, path: str, *, root: str = "/") -> None:
        self.process(
            f"5:memory:{path}\n4:cpu,cpuacct:{path}\n0::/",
            V1.format(id=1, root=root, name="cpu,cpuacct"),
            V1.format(id=2, root=root, name="memory"),
            V2.format(root="/", point="/sys/fs/cgroup/unified"),
        )


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def quota(tree: Tree) -> float | None:
    return cores_allowed(tree.folder).quota


@pytest.mark.parametrize(
    ("content", "cores"),
    [
        ("max 100000", None),
        ("60000 100000", 0.6),
        ("150000 100000", 1.5),
        ("800000 100000", 8.0),
        ("25000 50000", 0.5),
        ("", None),
        ("60000", None),
        ("0 100000", None),
        ("60000 0", None),
        ("much 100000", None),
    ],
)
def test_quota_of_version_2(tree: Tree, content: str, cores: float | None) -> None:
    tree.v2("/user.slice/service")
    file = tree.write("sys/fs/cgroup/user.slice/service/cpu.max", content)
    found = cores_allowed(tree.folder)
    assert found.quota == cores
    assert found.quota_source == ("" if cores is None else file)


@pytest.mark.parametrize(
    ("time", "period", "cores"),
    [(-1, 100_000, None), (60_000, 100_000, 0.6), (200_000, 100_000, 2.0), (5000, 10_000, 0.5)],
)
def test_quota_of_version_1(tree: Tree, time: int, period: int, cores: float | None) -> None:
    tree.v1("/docker/1f")
    tree.write("sys/fs/cgroup/cpu,cpuacct/docker/1f/cpu.cfs_quota_us", time)
    tree.write("sys/fs/cgroup/cpu,cpuacct/docker/1f/cpu.cfs_period_us", period)
    assert quota(tree) == cores


def test_lowest_quota_of_all_ancestors_counts(tree: Tree) -> None:
    tree.v2("/a/b/c")
    for path, content in {
        "a": "max 100000",
        "a/b": "50000 100000",
        "a/b/c": "200000 100000",
    }.items():
        tree.write(f"sys/fs/cgroup/{path}/cpu.max", content)
    assert quota(tree) == 0.5


@pytest.mark.parametrize(
    ("root", "path"),
    [
        ("/", "/"),  # a namespace of its own
        ("/docker/1f", "/docker/1f"),  # the container's group, mounted alone
        ("/docker/1f", "/"),
        ("/", "/../other"),  # moved out of its namespace
    ],
)
def test_container_sees_its_own_group_at_the_mount(tree: Tree, root: str, path: str) -> None:
    tree.v2(path, root=root)
    tree.write("sys/fs/cgroup/cpu.max", "70000 100000")
    tree.write("sys/fs/cgroup/memory.max", 750 * MB)
    assert quota(tree) == 0.7
    assert memory_allowed(tree.folder).total == 750 * MB


def test_mount_point_with_a_space(tree: Tree) -> None:
    tree.process("0::/a", V2.format(root="/", point="/sys/my\\040groups"))
    tree.write("sys/my groups/a/cpu.max", "70000 100000")
    assert quota(tree) == 0.7


@pytest.mark.parametrize(
    ("usable", "physical", "cores", "threads"),
    [
        (2, 2, None, 2),
        (2, 2, 0.6, 1),
        (2, 2, 1.99, 1),
        (2, 2, 2.0, 2),
        (8, 4, None, 4),
        (8, 4, 3.5, 3),
        (1, 4, 3.0, 1),
        (4, 0, None, 4),
        (4, 0, 0.01, 1),
    ],
)
def test_threads(usable: int, physical: int, cores: float | None, threads: int) -> None:
    allowed = CoreAllowance(usable=usable, physical=physical, quota=cores)
    assert allowed.num_threads == threads


@given(
    usable=st.integers(1, 512),
    physical=st.integers(0, 256),
    cores=st.none() | st.floats(0.01, 600),
)
def test_threads_never_exceed_what_is_there(
    usable: int, physical: int, cores: float | None
) -> None:
    threads = CoreAllowance(usable=usable, physical=physical, quota=cores).num_threads
    assert 1 <= threads <= usable
    assert cores is None or threads <= max(1, cores)


@pytest.mark.posix("affinity of Linux")
@pytest.mark.skipif(sys.platform != "linux", reason="affinity of Linux")
def test_affinity_counts() -> None:
    code = "from runtime.hardware.allowance import cores_allowed; print(cores_allowed().usable)"
    pinned = f"import os; os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}}); {code}"
    answer = subprocess.run(
        [sys.executable, "-c", pinned], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "1"


def test_memory_of_version_2(tree: Tree) -> None:
    tree.v2("/service")
    file = tree.write("sys/fs/cgroup/service/memory.max", 750 * MB)
    tree.write("sys/fs/cgroup/service/memory.high", "max")
    tree.write("sys/fs/cgroup/service/memory.current", 600 * MB)
    cached = f"anon {150 * MB}\ninactive_file {300 * MB}\nactive_file {100 * MB}\nshmem 5"
    tree.write("sys/fs/cgroup/service/memory.stat", f"{cached}\nslab_reclaimable {50 * MB}")
    assert memory_allowed(tree.folder) == MemoryAllowance(
        total=750 * MB, total_source=file, available=600 * MB, available_source=file
    )


def test_memory_high_is_a_limit_too(tree: Tree) -> None:
    tree.v2("/service")
    tree.write("sys/fs/cgroup/service/memory.max", 750 * MB)
    file = tree.write("sys/fs/cgroup/service/memory.high", 500 * MB)
    tree.write("sys/fs/cgroup/service/memory.current", 100 * MB)
    allowed = memory_allowed(tree.folder)
    assert (allowed.total, allowed.total_source) == (500 * MB, file)
    assert allowed.available == 400 * MB


def test_ancestor_may_leave_less_than_the_lowest_limit(tree: Tree) -> None:
    tree.v2("/slice/service")
    own = tree.write("sys/fs/cgroup/slice/service/memory.max", 700 * MB)
    tree.write("sys/fs/cgroup/slice/service/memory.current", 100 * MB)
    above = tree.write("sys/fs/cgroup/slice/memory.max", 1000 * MB)
    tree.write("sys/fs/cgroup/slice/memory.current", 900 * MB)
    assert memory_allowed(tree.folder) == MemoryAllowance(
        total=700 * MB, total_source=own, available=100 * MB, available_source=above
    )


def test_memory_of_version_1(tree: Tree) -> None:
    tree.v1("/docker/1f", root="/docker/1f")
    file = tree.write("sys/fs/cgroup/memory/memory.limit_in_bytes", 750 * MB)
    tree.write("sys/fs/cgroup/memory/memory.usage_in_bytes", 500 * MB)
    below = f"inactive_file 1\ntotal_inactive_file {200 * MB}\ntotal_active_file {100 * MB}"
    tree.write("sys/fs/cgroup/memory/memory.stat", below)
    assert memory_allowed(tree.folder) == MemoryAllowance(
        total=750 * MB, total_source=file, available=550 * MB, available_source=file
    )


def test_hierarchical_limit_of_ancestors_that_cannot_be_seen(tree: Tree) -> None:
    tree.v1("/docker/1f", root="/docker/1f")
    tree.write("sys/fs/cgroup/memory/memory.limit_in_bytes", UNLIMITED_V1)
    tree.write("sys/fs/cgroup/memory/memory.usage_in_bytes", 50 * MB)
    tree.write("sys/fs/cgroup/memory/memory.stat", f"hierarchical_memory_limit {600 * MB}")
    allowed = memory_allowed(tree.folder)
    assert (allowed.total, allowed.available) == (600 * MB, 550 * MB)


def test_group_over_its_limit_has_nothing_left(tree: Tree) -> None:
    tree.v2("/service")
    tree.write("sys/fs/cgroup/service/memory.high", 100 * MB)
    tree.write("sys/fs/cgroup/service/memory.current", 130 * MB)
    assert memory_allowed(tree.folder).available == 0


@pytest.mark.parametrize("limit", ["max", UNLIMITED_V1, 10**17, "", "lots", "-1x"])
def test_without_a_limit_it_is_the_machine(tree: Tree, limit: object) -> None:
    tree.v2("/service")
    tree.write("sys/fs/cgroup/service/memory.max", limit)
    tree.write("sys/fs/cgroup/service/memory.current", 1000)
    allowed = memory_allowed(tree.folder)
    assert allowed.total == psutil.virtual_memory().total
    assert allowed.total_source == allowed.available_source == MACHINE


@pytest.mark.parametrize("groups", ["", "nonsense", "0::", "1:", "\n\n", "0::/nowhere"])
@pytest.mark.parametrize("mounts", ["", "nonsense", "1 2 3", V2.format(root="/x", point="/y")])
def test_unreadable_trees_have_no_limits(tree: Tree, groups: str, mounts: str) -> None:
    tree.process(groups, mounts)
    assert ControlGroups(tree.folder).cpu_quotas() == ControlGroups(tree.folder).memory() == []


def test_no_tree_at_all(tmp_path: Path) -> None:
    assert quota(Tree(tmp_path)) is None
    assert memory_allowed(tmp_path).total_source == MACHINE


@given(st.lists(st.none() | st.integers(1, 10**7), min_size=1, max_size=6))
def test_quota_is_the_lowest_of_any_nesting(
    tmp_path_factory: pytest.TempPathFactory, quotas: list[int | None]
) -> None:
    tree = Tree(tmp_path_factory.mktemp("tree"))
    path = ""
    for depth, time in enumerate(quotas):
        path += f"/{depth}"
        tree.write(f"sys/fs/cgroup{path}/cpu.max", f"{time or 'max'} 100000")
    tree.v2(path)
    times = [time for time in quotas if time is not None]
    assert quota(tree) == (min(times) / 100_000 if times else None)


@pytest.mark.posix("limits that only Linux enforces")
@pytest.mark.skipif(sys.platform != "linux", reason="limits that only Linux enforces")
@pytest.mark.parametrize("kind", ["AS", "DATA"])
def test_limits_of_the_process(kind: str) -> None:
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_{kind}, (4 * 10**9, 4 * 10**9));"
        "from runtime.hardware.allowance import memory_allowed; a = memory_allowed();"
        "print(a.total, a.total_source, 0 < a.available < a.total)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == ["4000000000", "ulimit", f"-{'vd'[kind == 'DATA']}", "True"]
