"""How large a model may be on this machine, before anything is known of it but its size."""

from runtime.hardware.allowance import memory_allowed
from runtime.hardware.nvml import GpuReader


def memory_for_models(num_gpu_layers: int = 0) -> int:
    """Bytes that weights and context may use together, for llama.cpp: the memory that this process
    is allowed, and with layers on GPUs that of the GPUs besides. Mapped weights may push other
    files out of memory, so all of it counts and not only what is free now."""
    return memory_allowed().total + (_memory_of_gpus() if num_gpu_layers else 0)


def _memory_of_gpus() -> int:
    reader = GpuReader()
    try:
        gpus = reader.read().gpus
    finally:
        reader.close()
    return sum(gpu.memory_total or 0 for gpu in gpus)
