"""All checks of a machine for TensorRT-LLM, in the order in which they would fail."""

from runtime.config.engine import EngineConfig
from runtime.config.worker import engine_environment
from runtime.hardware.prerequisites.kernel_caches import check_kernel_caches
from runtime.hardware.prerequisites.machine import Check, Machine
from runtime.hardware.prerequisites.memory import (
    check_locked_memory,
    check_shared_memory,
    check_wsl,
)
from runtime.hardware.prerequisites.open_mpi import check_interfaces, check_open_mpi
from runtime.hardware.prerequisites.packages import check_packages, check_python
from runtime.hardware.prerequisites.toolkit import check_compiler, check_driver, check_toolkit
from runtime.hardware.readings import GpuSnapshot


def check_machine(
    machine: Machine, driver: GpuSnapshot, config: EngineConfig, model: str
) -> tuple[Check, ...]:
    """What of this Linux machine fits TensorRT-LLM and what does not. `model` is the folder that is
    to be served. Runs two or three short commands, and imports nothing."""
    environment = engine_environment(EngineConfig(name="tensorrt_llm"), machine.environment)
    return (
        check_python(),
        *check_packages(machine),
        *([check_driver(driver)] if driver.gpus else []),
        check_toolkit(machine, driver),
        check_compiler(machine),
        check_open_mpi(machine),
        check_interfaces(machine, environment),
        check_kernel_caches(machine),
        check_shared_memory(machine),
        check_locked_memory(machine),
        *check_wsl(machine, driver, config, model),
    )
