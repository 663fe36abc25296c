"""Memory of special kinds: shared, locked, and pinned for the GPU."""

import re

from runtime.config.engine import EngineConfig
from runtime.hardware.prerequisites.machine import Check, Machine, ok, warning
from runtime.hardware.readings import GpuSnapshot

LEAST_SHARED = 1 << 30
LEAST_LOCKED = 64 << 20

_LOCKED = re.compile(r"^Max locked memory\s+(\S+)", re.MULTILINE)
_WINDOWS_DRIVE = re.compile(r"/mnt/[a-z]/")


def check_shared_memory(machine: Machine) -> Check:
    """The size of /dev/shm, over which processes exchange tensors."""
    name = "/dev/shm"
    folder = machine.root / "dev/shm"
    advice = "in a container: --ipc=host or --shm-size=8g; else: sudo mount -o remount,size=8g"
    if not folder.is_dir():
        return warning(name, "missing", f"{advice} /dev/shm")
    total = machine.space(folder).total
    if total < LEAST_SHARED:
        return warning(name, f"only {_words(total)}", f"{advice} /dev/shm")
    return ok(name, _words(total))


def check_locked_memory(machine: Machine) -> Check:
    """How much memory a process may lock (`ulimit -l`)."""
    name = "ulimit -l"
    found = _LOCKED.search(machine.text("proc/self/limits"))
    if found is None or found[1] == "unlimited":
        return ok(name, "unlimited" if found else "unknown")
    limit = int(found[1])
    if limit < LEAST_LOCKED:
        return warning(
            name,
            f"only {_words(limit)} may be locked",
            "in a container: --ulimit memlock=-1; in a systemd unit: LimitMEMLOCK=infinity",
        )
    return ok(name, _words(limit))


def check_wsl(
    machine: Machine, driver: GpuSnapshot, config: EngineConfig, model: str
) -> list[Check]:
    """What is different under WSL 2; empty elsewhere."""
    if not machine.is_wsl:
        return []
    checks = [_pinned(config)]
    if _WINDOWS_DRIVE.match(model):
        checks.append(
            warning(
                "WSL 2 files",
                f"{model} is on a drive of Windows: loading takes minutes longer",
                "copy it into WSL's own file system, such as ~/models",
            )
        )
    if len(driver.gpus) > 1 and "NCCL_P2P_DISABLE" not in machine.environment:
        checks.append(
            warning(
                "WSL 2 GPUs",
                f"{len(driver.gpus)} GPUs: copies from one to another may hang",
                "with tensor_parallel_size above 1, set NCCL_P2P_DISABLE=1",
            )
        )
    return checks


def _pinned(config: EngineConfig) -> Check:
    name = "WSL 2 memory"
    host_cache_gb = config.tensorrt_llm.kv_cache.host_cache_gb
    if host_cache_gb:
        return warning(
            name,
            f"pinned memory is scarce, and host_cache_gb = {host_cache_gb:g} needs it",
            "set engine.tensorrt_llm.kv_cache.host_cache_gb to 0",
        )
    return ok(name, "pinned memory is scarce; host_cache_gb is 0 and needs none")


def _words(num_bytes: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if num_bytes >= size:
            return f"{num_bytes / size:.0f} {unit}"
    return f"{num_bytes >> 10} KiB"
