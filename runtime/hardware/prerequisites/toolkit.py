"""The driver, the CUDA toolkit and the compilers: kernels are also compiled while the server
runs."""

import re
import sysconfig
from pathlib import Path

from runtime.hardware.prerequisites.machine import (
    Check,
    Machine,
    Version,
    numbers,
    ok,
    problem,
    warning,
)
from runtime.hardware.readings import GpuSnapshot

CUDA_MAJOR = 13
"""The CUDA that every release from 1.2 on is built for."""

LEAST_DRIVER = 580
"""The first driver that runs programs for CUDA 13."""

_INSTALL_TOOLKIT = (
    f"install the CUDA {CUDA_MAJOR} toolkit (nvcc) and set CUDA_HOME to its folder, or install the"
    " package flashinfer-jit-cache of FlashInfer's version"
)


def check_driver(driver: GpuSnapshot) -> Check:
    """The driver against the CUDA that TensorRT-LLM is built for."""
    found = f"NVIDIA {driver.driver_version or 'unknown'}, CUDA {driver.cuda_version or 'unknown'}"
    cuda = numbers(driver.cuda_version)
    if cuda and cuda[0] < CUDA_MAJOR:
        return problem(
            "driver",
            f"{found}: too old for CUDA {CUDA_MAJOR}",
            f"install driver {LEAST_DRIVER} or newer (under WSL 2 on Windows, none inside WSL)",
        )
    return ok("driver", found)


def check_toolkit(machine: Machine, driver: GpuSnapshot) -> Check:
    """`nvcc` and `CUDA_HOME`. FlashInfer, which samples tokens, compiles kernels with them, at the
    first start or at the first sampled token."""
    name = "CUDA toolkit"
    home = machine.environment.get("CUDA_HOME") or machine.environment.get("CUDA_PATH")
    if home and not (Path(home) / "bin" / "nvcc").is_file():
        return warning(name, f"CUDA_HOME is {home}, which has no bin/nvcc", _INSTALL_TOOLKIT)
    nvcc = _find_nvcc(machine, home)
    if nvcc is None:
        return _without_nvcc(machine, name)
    version = _nvcc_version(machine, nvcc)
    if not version:
        return warning(name, f"{nvcc} does not tell its version", _INSTALL_TOOLKIT)
    found = f"{_dotted(version)}, {nvcc}"
    if version[0] != CUDA_MAJOR:
        return warning(name, f"{found}: not CUDA {CUDA_MAJOR}", _INSTALL_TOOLKIT)
    newest = numbers(driver.cuda_version)
    if newest and version > newest:
        return warning(
            name,
            f"{found}, newer than the driver, which is for CUDA {driver.cuda_version}",
            'update the driver if the start ends with "unsupported toolchain"',
        )
    if not home:
        return warning(
            name, found, f"set CUDA_HOME={nvcc.resolve().parent.parent}: not all tools search PATH"
        )
    return ok(name, found)


def check_compiler(machine: Machine) -> Check:
    """The C++ compiler, which `nvcc` calls, and the C compiler with Python's headers, which Triton
    calls."""
    name = "compiler"
    missing = [
        words
        for words, commands in (("C++ (g++)", ("g++", "c++")), ("C (gcc)", ("gcc", "cc")))
        if not any(machine.find(command) for command in commands)
    ]
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        missing.append("Python's headers (Python.h)")
    if missing:
        return warning(
            name,
            f"missing: {', '.join(missing)}",
            "kernels are compiled at run time: sudo apt-get install build-essential python3-dev",
        )
    return ok(name, f"{machine.find('g++') or machine.find('c++')}, and Python's headers")


def _find_nvcc(machine: Machine, home: str | None) -> Path | None:
    if home:
        return Path(home) / "bin" / "nvcc"
    usual = machine.root / "usr/local/cuda/bin/nvcc"
    return machine.find("nvcc") or (usual if usual.is_file() else None)


def _without_nvcc(machine: Machine, name: str) -> Check:
    version = machine.version("flashinfer-jit-cache")
    if version:
        return ok(name, f"no nvcc; flashinfer-jit-cache {version} has compiled kernels")
    return warning(name, "no nvcc: FlashInfer cannot compile its sampler", _INSTALL_TOOLKIT)


def _nvcc_version(machine: Machine, nvcc: Path) -> Version:
    found = re.search(r"release (\d+\.\d+)", machine.output(nvcc, "--version"))
    return numbers(found[1]) if found else ()


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))
