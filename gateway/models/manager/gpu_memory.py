"""What the GPUs have left for another model."""

from collections.abc import Sequence

from gateway.models.manager.spec import ModelSpec
from runtime.hardware.choice import visible_gpus
from runtime.hardware.nvml import GpuReader


def is_on_gpu(spec: ModelSpec) -> bool:
    """Whether a model's weights and cache are on GPUs. As soon as some layers are, all count: how
    many the model has is not looked up."""
    if spec.engine.name == "llama_cpp":
        return spec.engine.llama_cpp.num_gpu_layers > 0
    return spec.engine.name == "tensorrt_llm"


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
