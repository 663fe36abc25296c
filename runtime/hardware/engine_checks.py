"""Which engines can run on this machine, found out without starting one."""

import platform
import subprocess
import sys

import msgspec
from msgspec import Struct

from runtime.config.engine import EngineConfig
from runtime.hardware.prerequisites.checks import check_machine
from runtime.hardware.prerequisites.machine import Check, Machine, installed_version
from runtime.hardware.readings import GpuSnapshot
from runtime.version import __version__

_CHECK_TIMEOUT = 300
"""Seconds for the self-checks of all libraries."""


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


class _LibraryReport(Struct, frozen=True):
    """What `python -m runtime.llama_library` says of a library."""

    name: str
    version: str
    problem: str


def examine_engines(
    driver: GpuSnapshot, config: EngineConfig, model: str
) -> tuple[EngineReport, ...]:
    """A report on each engine. `config` and `model` are what is to be served. Takes seconds the
    first time: llama.cpp computes."""
    return _examine_llama_cpp(config), _examine_tensorrt_llm(driver, config, model), _SCRIPTED


_SCRIPTED = EngineReport(name="scripted", can_run=True, version=__version__)
_TENSORRT_LLM_ADVICE = "docs/tensorrt-llm.md has the installation, or use llama_cpp"
_LLAMA_CPP_ADVICE = "pip install 'lockgate[cpu]'"


def named_library_problem(config: EngineConfig) -> str:
    """What is wrong with the library that `engine.llama_cpp.library` names for the engine that is
    to run, in a sentence; empty if nothing is, or none is named. Takes seconds the first time."""
    names = _named_libraries(config)
    if config.name != "llama_cpp" or not names:
        return ""
    [report] = _library_reports(names)
    return report.problem


def _named_libraries(config: EngineConfig) -> list[str]:
    library = config.llama_cpp.library
    return [] if library in ("auto", "cautious") else [library]


def _examine_llama_cpp(config: EngineConfig) -> EngineReport:
    try:
        reports = _library_reports(_named_libraries(config))
    except (subprocess.SubprocessError, msgspec.DecodeError) as error:
        return _llama_cpp_fails(f"its libraries cannot be examined: {error}")
    if not reports:
        return _llama_cpp_fails("no llama.cpp library is installed")
    right = [f"{each.name} {each.version}" for each in reports if not each.problem]
    if not right:
        return _llama_cpp_fails(*(each.problem for each in reports))
    return EngineReport(name="llama_cpp", can_run=True, version=", ".join(right))


def _library_reports(names: list[str]) -> list[_LibraryReport]:
    """On the named libraries, or on all that are installed. In another process: a library built for
    another processor ends the process that loads it."""
    command = [sys.executable, "-P", "-m", "runtime.llama_library", *names]
    probe = subprocess.run(command, capture_output=True, check=True, timeout=_CHECK_TIMEOUT)
    return msgspec.json.decode(probe.stdout, type=list[_LibraryReport])


def _llama_cpp_fails(*problems: str) -> EngineReport:
    return EngineReport(
        name="llama_cpp", can_run=False, problems=problems, advice=_LLAMA_CPP_ADVICE
    )


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
