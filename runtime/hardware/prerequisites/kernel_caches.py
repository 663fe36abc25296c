"""The folders in which compiled kernels are kept."""

import os
from pathlib import Path
from typing import NamedTuple

from runtime.hardware.prerequisites.machine import Check, Machine, nearest, ok, warning

LEAST_FREE = 5 * 10**9
"""Bytes. Kernels of a model take a few hundred MB, and temporary files as much again."""


class _Cache(NamedTuple):
    """A folder below the user's, unless a variable names another; then `below` is in that one."""

    name: str
    variable: str
    usual: str
    below: str = ""


_CACHES = (
    _Cache("FlashInfer", "FLASHINFER_WORKSPACE_BASE", ".cache/flashinfer", ".cache/flashinfer"),
    _Cache("Triton", "TRITON_CACHE_DIR", ".triton/cache"),
    _Cache("DeepGEMM", "TRTLLM_DG_CACHE_DIR", ".tensorrt_llm"),
    _Cache("CUDA", "CUDA_CACHE_PATH", ".nv/ComputeCache"),
)


def check_kernel_caches(machine: Machine) -> Check:
    """Whether kernels that are compiled at run time can be kept."""
    name = "kernel caches"
    folders = {cache: _folder(machine, cache) for cache in _CACHES}
    closed = [cache for cache, folder in folders.items() if not _is_writable(folder)]
    if closed:
        return warning(
            name,
            "not writable: " + ", ".join(f"{cache.name} ({folders[cache]})" for cache in closed),
            f"set {', '.join(cache.variable for cache in closed)} to a folder that is",
        )
    free = {cache: machine.space(folder).free for cache, folder in folders.items()}
    fullest = min(_CACHES, key=free.__getitem__)
    found = f"{free[fullest] / 1e9:.1f} GB free for {folders[fullest]}"
    if free[fullest] < LEAST_FREE:
        return warning(
            name,
            f"only {found}",
            f"make room, or set {fullest.variable} to a folder on another disk",
        )
    return ok(name, found)


def _folder(machine: Machine, cache: _Cache) -> Path:
    named = machine.environment.get(cache.variable)
    return Path(named) / cache.below if named else machine.home / cache.usual


def _is_writable(folder: Path) -> bool:
    place = nearest(folder)
    return place.is_dir() and os.access(place, os.W_OK)
