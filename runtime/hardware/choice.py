"""Which GPU an engine uses, and its data sheet."""

import os
from collections.abc import Sequence

import msgspec

from runtime.errors import SetupError
from runtime.hardware.gpu_table import GpuSpec, find_gpu, match_gpu
from runtime.hardware.nvml import (
    GpuReader,
)
from runtime.hardware.readings import (
    GpuReading,
)


def choose_gpu(name: str, index: int = 0) -> GpuSpec:
    """The GPU of that name, or, for "auto", the one of that number in this machine.

    Raises SetupError where the name is not known, and where the machine has no such GPU.
    """
    if name != "auto":
        return find_gpu(name)
    reader = GpuReader()
    try:
        snapshot = reader.read()
    finally:
        reader.close()
    if snapshot.problem or not snapshot.gpus:
        reason = snapshot.problem or "the driver sees no GPU"
        raise SetupError(f"--gpu auto: {reason}. Name one, such as --gpu rtx-4070")
    here = {gpu.index: gpu for gpu in snapshot.gpus}
    if index not in here:
        known = ", ".join(map(str, here))
        raise SetupError(f"--gpu-index: there is no GPU {index}; there are: {known}")
    spec = spec_of(here[index])
    if spec is None:
        reason = here[index].problem or "the driver tells too little about it"
        raise SetupError(f"--gpu auto: {here[index].name}: {reason}. Name one with --gpu")
    return spec


def spec_of(gpu: GpuReading) -> GpuSpec | None:
    """The GPU's figures: those of the table with the memory that is really there; of an unknown
    GPU the driver's own, without peak rates. None when the driver tells too little."""
    if gpu.memory_total is None or gpu.compute_capability is None:
        return None
    known = match_gpu(gpu.name, gpu.memory_total)
    if known is not None:
        return msgspec.structs.replace(known, memory_bytes=gpu.memory_total)
    if gpu.memory_bandwidth is None:
        return None
    major, _, minor = gpu.compute_capability.partition(".")
    return GpuSpec(
        name=gpu.name,
        nvml_name=gpu.name,
        memory_bytes=gpu.memory_total,
        bandwidth=gpu.memory_bandwidth,
        compute_capability=(int(major), int(minor)),
    )


def visible_gpus(gpus: Sequence[GpuReading]) -> tuple[GpuReading, ...]:
    """The GPUs that CUDA programs of this machine see: all, unless CUDA_VISIBLE_DEVICES says less.
    Numbers in it are taken for NVML's, as with CUDA_DEVICE_ORDER=PCI_BUS_ID."""
    words = [word.strip() for word in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    named = [
        gpu
        for word in words
        for gpu in gpus
        if word and (word == str(gpu.index) or (gpu.uuid and gpu.uuid.startswith(word)))
    ]
    return tuple(named or gpus)
