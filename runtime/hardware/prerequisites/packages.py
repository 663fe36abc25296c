"""The versions of Python and of the packages that the installed TensorRT-LLM requires."""

import platform
import sys

from packaging.requirements import InvalidRequirement, Requirement

from runtime.hardware.prerequisites.machine import Check, Machine, ok, problem, warning
from runtime.hardware.prerequisites.toolkit import CUDA_MAJOR

_SHOWN = 3
_REINSTALL = "install again with the constraint of docs/tensorrt-llm.md, which keeps torch"


def check_python() -> Check:
    """Python's version."""
    if sys.version_info[:2] != (3, 12):
        return problem(
            "Python",
            f"it needs Python 3.12, this is {platform.python_version()}",
            "make the environment anew: python3.12 -m venv .venv",
        )
    return ok("Python", platform.python_version())


def check_packages(machine: Machine) -> list[Check]:
    """The requirements of the installed TensorRT-LLM, and torch's CUDA; empty if the package is not
    installed."""
    if not machine.version("tensorrt_llm"):
        return []
    wrong = [
        words for each in machine.requirements("tensorrt_llm") if (words := _miss(machine, each))
    ]
    torch = machine.version("torch")
    _, _, build = torch.partition("+")
    if build and not build.startswith(f"cu{CUDA_MAJOR}"):
        wrong.insert(0, f"torch {torch} is not built for CUDA {CUDA_MAJOR}")
    if not wrong:
        return [ok("packages", f"as TensorRT-LLM requires them; torch {torch or 'unknown'}")]
    more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return [warning("packages", ", ".join(wrong[:_SHOWN]) + more, _REINSTALL)]


def _miss(machine: Machine, text: str) -> str:
    """How a requirement is not met; empty if it is, or does not apply here."""
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return ""
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return ""
    version = machine.version(requirement.name)
    if not version:
        return f"{requirement.name} is missing"
    if requirement.specifier.contains(version, prereleases=True):
        return ""
    return f"{requirement.name} {version} is not {requirement.specifier}"
