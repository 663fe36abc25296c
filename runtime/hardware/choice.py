"""Chooses the GPU to plan for, and finds its data."""

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
    """The data of the GPU with this name or, for "auto", of GPU number `index` in this machine.

    Raises SetupError for an unknown name, and if the machine has no such GPU or its driver reports
    too little about it.
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
    """The data of a GPU: its row of the table, with the memory that the driver reports. For a GPU
    that is not in the table, it is what the driver reports, without peak rates. None if the driver
    reports too little."""
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
    """The GPUs that CUDA programs see: those that CUDA_VISIBLE_DEVICES names, else all. Numbers in
    it are taken as NVML's, as with CUDA_DEVICE_ORDER=PCI_BUS_ID."""
    words = [word.strip() for word in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    named = [
        gpu
        for word in words
        for gpu in gpus
        if word and (word == str(gpu.index) or (gpu.uuid and gpu.uuid.startswith(word)))
    ]
    return tuple(named or gpus)
