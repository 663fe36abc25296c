"""What the doctor says about a machine for TensorRT-LLM: every check, on machines of folders."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.config.engine import EngineConfig
from runtime.config.tensorrt_llm import TensorRTConfig, TensorRTKvCacheConfig
from runtime.config.worker import engine_environment
from runtime.hardware.prerequisites.checks import check_machine
from runtime.hardware.prerequisites.kernel_caches import check_kernel_caches
from runtime.hardware.prerequisites.machine import Check, Machine, Space, numbers
from runtime.hardware.prerequisites.memory import (
    check_locked_memory,
    check_shared_memory,
    check_wsl,
)
from runtime.hardware.prerequisites.open_mpi import check_interfaces, check_open_mpi
from runtime.hardware.prerequisites.packages import check_packages, check_python
from runtime.hardware.prerequisites.toolkit import check_compiler, check_driver, check_toolkit
from runtime.hardware.readings import GpuReading, GpuSnapshot
from tests.runtime.hardware.prerequisites.harness import GB, MakeMachine

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the engine needs Linux")

DRIVER = GpuSnapshot(
    driver_version="581.29", cuda_version="13.1", gpus=(GpuReading(index=0, name="", uuid=""),)
)
NVCC = "nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release {0}, V{0}.88"
WSL = "Linux version 6.6.87.2-microsoft-standard-WSL2 (root@1) (gcc)"
CONFIG = EngineConfig(name="tensorrt_llm")


def judged(check: Check, status: str, *words: str) -> None:
    """The check has the status, its line has the words, and it advises when something is wrong."""
    line = f"{check.found} → {check.advice}"
    assert check.status == status, line
    assert bool(check.advice) == (status != "ok")
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("cuda", "status"),
    [("13.0", "ok"), ("13.1", "ok"), ("14.0", "ok"), ("", "ok"), ("12.9", "problem")],
)
def test_the_driver_has_to_run_cuda_13(cuda: str, status: str) -> None:
    driver = GpuSnapshot(driver_version="570.1", cuda_version=cuda)
    judged(check_driver(driver), status, "570.1", *(["580"] if status == "problem" else []))


@pytest.mark.parametrize(
    ("release", "status", "word"),
    [
        ("13.0", "ok", "13.0"),
        ("13.1", "ok", "13.1"),
        ("13.4", "warning", "newer than the driver"),
        ("12.8", "warning", "not CUDA 13"),
        ("11.5", "warning", "not CUDA 13"),
    ],
)
def test_the_toolkit_goes_with_the_driver(
    make_machine: MakeMachine, tmp_path: Path, release: str, status: str, word: str
) -> None:
    machine = make_machine(
        commands={"nvcc": NVCC.format(release)}, environment={"CUDA_HOME": str(tmp_path)}
    )
    judged(check_toolkit(machine, DRIVER), status, word)


def test_without_a_toolkit_flashinfer_cannot_compile(make_machine: MakeMachine) -> None:
    judged(check_toolkit(make_machine(), DRIVER), "warning", "nvcc", "CUDA_HOME", "jit-cache")
    cached = make_machine(packages={"flashinfer-jit-cache": "0.6.18"})
    judged(check_toolkit(cached, DRIVER), "ok", "0.6.18")


def test_cuda_home_is_asked_for_and_has_to_be_right(
    make_machine: MakeMachine, tmp_path: Path
) -> None:
    commands = {"nvcc": NVCC.format("13.0")}
    judged(
        check_toolkit(make_machine(commands=commands), DRIVER), "warning", f"CUDA_HOME={tmp_path}"
    )
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        wrong = make_machine(commands=commands, environment={variable: "/nowhere"})
        judged(check_toolkit(wrong, DRIVER), "warning", "/nowhere", "bin/nvcc")


def test_the_usual_place_of_the_toolkit_is_looked_at(
    make_machine: MakeMachine, tmp_path: Path
) -> None:
    machine = make_machine(commands={"../usr/local/cuda/bin/nvcc": NVCC.format("13.0")})
    judged(check_toolkit(machine, DRIVER), "warning", f"CUDA_HOME={tmp_path}/usr/local/cuda")


@pytest.mark.parametrize("script", ["exit 1", "echo nothing", "sleep 0; kill -9 $$"])
def test_an_nvcc_that_fails_is_said(make_machine: MakeMachine, tmp_path: Path, script: str) -> None:
    machine = make_machine(commands={"nvcc": ""}, environment={"CUDA_HOME": str(tmp_path)})
    (tmp_path / "bin" / "nvcc").write_text(f"#!/bin/sh\n{script}\n")
    judged(check_toolkit(machine, DRIVER), "warning", "does not tell its version")


def test_compilers_are_needed_at_run_time(make_machine: MakeMachine) -> None:
    judged(check_compiler(make_machine()), "warning", "g++", "gcc", "build-essential")
    judged(check_compiler(make_machine(commands={"c++": ""})), "warning", "C (gcc)")


@pytest.mark.parametrize(
    ("command", "output", "status", "word"),
    [
        ("ompi_info", "Open MPI v4.1.6\n", "ok", "4.1.6"),
        ("mpirun", "mpirun (Open MPI) 4.1.4", "ok", "4.1.4"),
        ("ompi_info", "Open MPI v5.0.8", "warning", "TLLM_WORKER_USE_SINGLE_PROCESS=1"),
        ("mpirun", "mpirun (Open MPI) 5.0.7rc1", "warning", "MPI_ERR_UNKNOWN"),
        ("mpirun", "Intel(R) MPI Library for Linux", "warning", "another MPI"),
        ("mpirun", "HYDRA build details:\n Version: 4.2", "warning", "HYDRA"),
    ],
)
def test_the_version_of_open_mpi(
    make_machine: MakeMachine, command: str, output: str, status: str, word: str
) -> None:
    judged(check_open_mpi(make_machine(commands={command: output})), status, word)


def test_open_mpi_5_is_fine_without_mpi(make_machine: MakeMachine) -> None:
    environment = {"TLLM_WORKER_USE_SINGLE_PROCESS": "1"}
    machine = make_machine(commands={"ompi_info": "Open MPI v5.0.8"}, environment=environment)
    judged(check_open_mpi(machine), "ok", "5.0.8")


def test_open_mpi_may_be_a_library_alone(make_machine: MakeMachine, tmp_path: Path) -> None:
    judged(check_open_mpi(make_machine()), "warning", "libopenmpi-dev")
    library = "usr/lib/x86_64-linux-gnu/libmpi.so.40"
    judged(check_open_mpi(make_machine(files={library: ""})), "ok", library)
    own = make_machine(
        files={"own/libmpi.so.40": ""}, environment={"LD_LIBRARY_PATH": f":{tmp_path}/own"}
    )
    judged(check_open_mpi(own), "ok", "own/libmpi.so.40")


def interfaces(machine: Machine) -> Check:
    return check_interfaces(machine, engine_environment(CONFIG, machine.environment))


@pytest.mark.parametrize(
    ("environment", "status", "words"),
    [
        ({}, "ok", ["bound to lo", "docker0", "eth0"]),
        ({"OMPI_MCA_btl_tcp_if_include": "127.0.0.0/8"}, "ok", []),
        ({"OMPI_MCA_btl_tcp_if_include": "lo,eth0"}, "warning", ["lo,eth0", "docker0, tun0"]),
        ({"OMPI_MCA_oob_tcp_if_include": "tun0"}, "warning", ["oob_tcp_if_include=tun0"]),
        ({"OMPI_MCA_btl_tcp_if_exclude": "docker0"}, "warning", ["unset it"]),
    ],
)
def test_open_mpi_keeps_to_loopback(
    make_machine: MakeMachine, environment: dict[str, str], status: str, words: list[str]
) -> None:
    names = ("docker0", "eth0", "tun0")
    files = {f"sys/class/net/{name}/flags": "0x1003" for name in names}
    judged(interfaces(make_machine(files, environment=environment)), status, *words)


@pytest.mark.parametrize("flags", ["0x8", ""])
def test_loopback_has_to_be_up(make_machine: MakeMachine, flags: str) -> None:
    machine = make_machine({"sys/class/net/lo/flags": flags})
    judged(interfaces(machine), "problem", "ip link set lo up")


def test_kernels_need_room(make_machine: MakeMachine, tmp_path: Path) -> None:
    judged(check_kernel_caches(make_machine()), "ok", "50.0 GB")
    full = make_machine(space=Space(100 * GB, 4 * GB))
    judged(check_kernel_caches(full), "warning", "4.0 GB", "FLASHINFER_WORKSPACE_BASE")


@pytest.mark.parametrize(
    "variable",
    [
        "FLASHINFER_WORKSPACE_BASE",
        "TRITON_CACHE_DIR",
        "TRTLLM_DG_CACHE_DIR",
        "CUDA_CACHE_PATH",
    ],
)
def test_kernels_need_folders_that_can_be_written(
    make_machine: MakeMachine, tmp_path: Path, variable: str
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    machine = make_machine(environment={variable: str(file / "below")})
    judged(check_kernel_caches(machine), "warning", variable, str(file))


@pytest.mark.parametrize(
    ("size", "status"), [(64 << 20, "warning"), (1 << 30, "ok"), (24 << 30, "ok")]
)
def test_shared_memory_has_a_size(make_machine: MakeMachine, size: int, status: str) -> None:
    machine = make_machine({"dev/shm/x": ""}, space=Space(size, size))
    words = ["--ipc=host", "64 MiB"] if status == "warning" else []
    judged(check_shared_memory(machine), status, *words)


def test_shared_memory_may_be_missing(make_machine: MakeMachine) -> None:
    judged(check_shared_memory(make_machine()), "warning", "missing")


@pytest.mark.parametrize(
    ("limit", "status", "word"),
    [
        ("unlimited", "ok", "unlimited"),
        ("8388608", "warning", "8 MiB"),
        ("65536", "warning", "64 KiB"),
        ("3355443200", "ok", "3 GiB"),
    ],
)
def test_locked_memory_has_a_limit(
    make_machine: MakeMachine, limit: str, status: str, word: str
) -> None:
    limits = f"Limit  Soft Limit  Hard Limit  Units\nMax locked memory  {limit}  {limit}  bytes\n"
    judged(check_locked_memory(make_machine({"proc/self/limits": limits})), status, word)


def test_wsl_is_recognised(make_machine: MakeMachine) -> None:
    assert check_wsl(make_machine({"proc/version": "Linux 6.8-generic"}), DRIVER, CONFIG, "") == []
    (pinned,) = check_wsl(make_machine({"proc/version": WSL}), DRIVER, CONFIG, "/home/me/model")
    judged(pinned, "ok", "pinned memory")


def test_wsl_has_its_own_advice(make_machine: MakeMachine) -> None:
    cache = TensorRTKvCacheConfig(host_cache_gb=8)
    config = EngineConfig(name="tensorrt_llm", tensorrt_llm=TensorRTConfig(kv_cache=cache))
    two = GpuSnapshot(gpus=(*DRIVER.gpus, *DRIVER.gpus))
    machine = make_machine({"proc/version": WSL})

    pinned, files, gpus = check_wsl(machine, two, config, "/mnt/c/models/qwen")

    judged(pinned, "warning", "host_cache_gb = 8")
    judged(files, "warning", "/mnt/c/models/qwen", "WSL's own file system")
    judged(gpus, "warning", "NCCL_P2P_DISABLE=1")


def test_python_is_3_12(monkeypatch: pytest.MonkeyPatch) -> None:
    for version, status in (((3, 12, 9), "ok"), ((3, 11, 7), "problem"), ((3, 13, 0), "problem")):
        monkeypatch.setattr(sys, "version_info", version)
        judged(check_python(), status)


WANTED = [
    "torch<=2.10.0a0,>=2.9.1",
    "numpy<2",
    "mpi4py",
    'pywin32; sys_platform == "win32"',
    'pytest; extra == "devel"',
    "not a requirement !!",
]
INSTALLED = {"tensorrt_llm": "1.2.1", "torch": "2.9.1+cu130", "numpy": "1.26.4", "mpi4py": "4.1"}


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({}, "ok", ["2.9.1+cu130"]),
        ({"torch": "2.9.1+cu128"}, "warning", ["not built for CUDA 13"]),
        ({"torch": "2.9.1+cpu"}, "warning", ["not built for CUDA 13"]),
        ({"torch": "2.11.0"}, "warning", ["torch 2.11.0 is not", "docs/tensorrt-llm.md"]),
        ({"numpy": "2.3.0"}, "warning", ["numpy 2.3.0 is not <2"]),
        ({"mpi4py": ""}, "warning", ["mpi4py is missing"]),
        ({"torch": "", "numpy": "", "mpi4py": ""}, "warning", ["mpi4py"]),
    ],
)
def test_packages_are_those_that_the_release_requires(
    make_machine: MakeMachine, changes: dict[str, str], status: str, words: list[str]
) -> None:
    machine = make_machine(packages=INSTALLED | changes, requirements=WANTED)
    (check,) = check_packages(machine)
    judged(check, status, *words)


def test_many_wrong_packages_stay_one_line(make_machine: MakeMachine) -> None:
    wanted = [f"package-{number}" for number in range(9)]
    machine = make_machine(packages={"tensorrt_llm": "1.2.1"}, requirements=wanted)
    (check,) = check_packages(machine)
    judged(check, "warning", "package-0 is missing", "and 6 more")


def test_packages_of_nothing_are_not_looked_at(make_machine: MakeMachine) -> None:
    assert check_packages(make_machine(requirements=WANTED)) == []


def test_a_bare_machine_gets_every_check_on_one_line(make_machine: MakeMachine) -> None:
    checks = check_machine(make_machine(), DRIVER, CONFIG, "")

    assert len({check.name for check in checks}) == len(checks) >= 9
    assert not [check for check in checks if "\n" in check.found + check.advice]
    assert all(bool(check.advice) == (check.status != "ok") for check in checks)


@given(
    st.lists(st.integers(0, 10**6), min_size=1, max_size=4), st.sampled_from(["", "rc1", "+cu130"])
)
def test_versions_are_their_numbers(parts: list[int], rest: str) -> None:
    assert numbers(".".join(map(str, parts)) + rest) == tuple(parts)


@pytest.mark.parametrize("text", ["", "v1", "unknown"])
def test_no_numbers_are_no_version(text: Any) -> None:
    assert numbers(text) == ()
