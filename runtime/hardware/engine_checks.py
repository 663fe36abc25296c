"""Which engines can run on this machine, found out without starting one."""

import importlib.util
import platform
import signal
import subprocess
import sys

from msgspec import Struct

from runtime.config.engine import EngineConfig
from runtime.hardware.prerequisites.checks import check_machine
from runtime.hardware.prerequisites.machine import Check, Machine, installed_version
from runtime.hardware.readings import GpuSnapshot
from runtime.version import __version__

_IMPORT_TIMEOUT = 60
"""Seconds."""


class EngineReport(Struct, frozen=True, kw_only=True):
    """Whether an engine can run on this machine. `problems` are the reasons if it cannot; `advice`
    is what to do about them. `checks` are of what it needs beside its package; none are made of an
    engine that is out of the question here."""

    name: str
    can_run: bool
    version: str = ""
    problems: tuple[str, ...] = ()
    advice: str = ""
    checks: tuple[Check, ...] = ()


def examine_engines(
    driver: GpuSnapshot, config: EngineConfig, model: str
) -> tuple[EngineReport, ...]:
    """A report on each engine. `config` and `model` are what is to be served. Takes a second or
    two: llama.cpp is really imported."""
    return _examine_llama_cpp(), _examine_tensorrt_llm(driver, config, model), _SCRIPTED


_SCRIPTED = EngineReport(name="scripted", can_run=True, version=__version__)
_TENSORRT_LLM_ADVICE = "docs/tensorrt-llm.md has the installation, or use llama_cpp"
_LLAMA_CPP_ADVICE = "pip install 'lockgate[cpu]' (it needs a C++ compiler)"


def _examine_llama_cpp() -> EngineReport:
    if importlib.util.find_spec("llama_cpp") is None:
        return _llama_cpp_fails("the package llama-cpp-python is not installed")
    # in a subprocess: a library built for another CPU kills the process that loads it
    command = [sys.executable, "-c", "import llama_cpp; print(llama_cpp.__version__)"]
    try:
        probe = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_IMPORT_TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return _llama_cpp_fails(f"importing llama_cpp takes more than {_IMPORT_TIMEOUT} seconds")
    if probe.returncode:
        return _llama_cpp_fails(_import_problem(probe))
    return EngineReport(name="llama_cpp", can_run=True, version=probe.stdout.strip())


def _llama_cpp_fails(problem: str) -> EngineReport:
    return EngineReport(
        name="llama_cpp", can_run=False, problems=(problem,), advice=_LLAMA_CPP_ADVICE
    )


def _import_problem(probe: subprocess.CompletedProcess[str]) -> str:
    if probe.returncode < 0:
        name = signal.Signals(-probe.returncode).name
        return f"importing llama_cpp ends with {name}; it may be built for another CPU"
    lines = probe.stderr.strip().splitlines() or ["no reason given"]
    return f"importing llama_cpp fails: {lines[-1]}"


def _examine_tensorrt_llm(driver: GpuSnapshot, config: EngineConfig, model: str) -> EngineReport:
    """Examines TensorRT-LLM without an import, which would take half a minute and GPU memory."""
    version = installed_version("tensorrt_llm")
    is_wanted = bool(driver.gpus or version or config.name == "tensorrt_llm")
    checks: tuple[Check, ...] = ()
    if is_wanted and sys.platform == "linux":
        checks = check_machine(Machine(), driver, config, model)
    problems = _tensorrt_llm_problems(driver)
    problems += [check.found for check in checks if check.status == "problem"]
    if not version:
        problems.append("the package tensorrt_llm is not installed")
    return EngineReport(
        name="tensorrt_llm",
        can_run=not problems,
        version=version,
        problems=tuple(problems),
        advice=_TENSORRT_LLM_ADVICE if driver.gpus else "use llama_cpp",
        checks=checks,
    )


def _tensorrt_llm_problems(driver: GpuSnapshot) -> list[str]:
    """What puts TensorRT-LLM out of the question (docs/tensorrt-llm-contract.md, 9)."""
    problems = []
    if sys.platform != "linux":
        problems.append(f"it needs Linux, this is {platform.system()}")
    if not driver.gpus:
        problems.append(f"it needs an NVIDIA GPU: {driver.problem or 'the driver sees none'}")
    return problems
