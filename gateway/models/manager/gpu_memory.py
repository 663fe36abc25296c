"""What the GPUs have left for another model."""

from collections.abc import Sequence

from gateway.models.manager.spec import ModelSpec
from runtime.hardware.choice import visible_gpus
from runtime.hardware.nvml import GpuReader


def gpu_share(spec: ModelSpec) -> float:
    """The share of a model's weights and cache that is on GPUs, 0 to 1. Every layer of a model
    counts as on a GPU as soon as some are: how many it has is not looked up."""
    if spec.engine.name == "llama_cpp":
        return 1.0 if spec.engine.llama_cpp.num_gpu_layers else 0.0
    return 1.0 if spec.engine.name == "tensorrt_llm" else 0.0


def free_gpu_bytes(devices: Sequence[int]) -> int | None:
    """The free memory of all GPUs that models may use, read now; None if no driver tells. It may
    take as long as the driver does: call it in a thread."""
    reader = GpuReader()
    try:
        gpus = reader.read().gpus
    finally:
        reader.close()
    wanted = set(devices) or {gpu.index for gpu in visible_gpus(gpus)}
    free = [gpu.memory_free for gpu in gpus if gpu.index in wanted and gpu.memory_free is not None]
    return sum(free) if free else None
