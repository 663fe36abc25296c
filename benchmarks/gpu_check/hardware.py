"""Steps that need no server: the machine, the plan against the driver, the memory's bandwidth."""

import time
from pathlib import Path
from typing import Any

import msgspec

from gateway.commands.doctor import examine
from gateway.settings.schema import Settings
from gpu_check.steps import Facts, Skip, expect
from runtime.errors import SetupError
from runtime.hardware.choice import choose_gpu
from runtime.hardware.gpu_table import GpuSpec
from runtime.hardware.nvml import GpuReader
from runtime.hardware.readings import GpuReading
from runtime.models.store import ModelStore
from runtime.planning.memory_account import Wishes
from runtime.planning.plan_source import find_planned_model
from runtime.planning.planner import EnginePlan, fill

NUM_STREAMS = 8
COPY_BYTES = 1 << 30
COPY_ROUNDS = 10


def machine() -> Facts:
    """What `lockgate doctor` says."""
    facts: Facts = msgspec.to_builtins(examine(Settings()))
    return facts


def reading() -> GpuReading:
    """The first GPU as the driver shows it now. Raises Skip without one."""
    reader = GpuReader()
    try:
        snapshot = reader.read()
    finally:
        reader.close()
    if not snapshot.gpus:
        raise Skip(snapshot.problem or "the driver sees no GPU")
    return snapshot.gpus[0]


def plan(folder: Path) -> tuple[EnginePlan, GpuSpec]:
    """The plan for this model on this machine's GPU. Raises Skip where there is none."""
    try:
        spec = choose_gpu("auto")
        model = find_planned_model(str(folder), ModelStore())
        stored = model.stored
        precision = "bf16" if stored is None or stored.precision is None else stored.precision
        size = None if stored is None else stored.num_bytes
        return fill(model.shape, spec, precision, Wishes(), weights=size), spec
    except SetupError as error:
        raise Skip(f"no plan: {error}") from error


def plan_against_driver(folder: Path) -> Facts:
    """The table's memory of this card against the driver's."""
    found, (planned, spec) = reading(), plan(folder)
    total = found.memory_total or 0
    expect(
        abs(total - spec.memory_bytes) <= 0.02 * spec.memory_bytes,
        f"the driver says {total} bytes of memory, the table {spec.memory_bytes}",
    )
    return {
        "gpu": found.name,
        "memory_total": total,
        "memory_free": found.memory_free,
        "planned_memory": spec.memory_bytes,
        "budget": msgspec.to_builtins(planned.budget),
        "max_seq_len": planned.max_seq_len,
        "max_kv_tokens": planned.max_kv_tokens,
    }


def bandwidth() -> Facts:
    """Bytes a second that a copy within the GPU's memory reads and writes, against the table's."""
    torch = _torch()
    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    target.copy_(source)
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(COPY_ROUNDS):
        target.copy_(source)
    torch.cuda.synchronize()
    measured = 2 * COPY_BYTES * COPY_ROUNDS / (time.perf_counter() - start)
    told = choose_gpu("auto").bandwidth
    expect(measured > 0.5 * told, f"{measured:.3g} bytes/s, less than half of {told:.3g}")
    return {"measured": measured, "table": told, "share": measured / told}


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise Skip(f"torch does not load: {error}") from error
    if not torch.cuda.is_available():
        raise Skip("torch sees no GPU")
    return torch
