"""Chooses the settings that are left on "auto", from the model's folder and the GPU.

A model that cannot fit is refused here, before anything is loaded.
"""

from pathlib import Path

import msgspec
import structlog

from runtime.config.engine import EngineConfig
from runtime.config.tensorrt_llm import TensorRTConfig
from runtime.engines.tensorrt_llm.setup.checkpoint import Checkpoint
from runtime.errors import ModelFileError, SetupError
from runtime.hardware.choice import spec_of, visible_gpus
from runtime.hardware.gpu_table import GpuSpec
from runtime.hardware.readings import GpuReading, GpuSnapshot
from runtime.models.store import ModelStore
from runtime.planning.memory_account import Wishes
from runtime.planning.plan_source import PlannedModel, find_planned_model
from runtime.planning.planner import EnginePlan, fill
from runtime.planning.precisions import Kernels

log = structlog.get_logger(__name__)


class _NotPlanned(Exception):
    """The reason why there is no plan. The engine then uses its own defaults."""


def fill_settings(
    config: EngineConfig,
    checkpoint: Checkpoint,
    gpus: GpuSnapshot,
    kernels: Kernels = "unknown",
) -> EngineConfig:
    """The settings with the plan's choices in place of "auto". The log reports the plan. `kernels`
    are those of the installed release.

    Where no plan can be made (no driver, several GPUs, engines that are built already, a model that
    the planner does not know), the settings stay as they are, and the log reports the reason.
    Raises SetupError when the model cannot fit, and ModelFileError for a damaged folder.
    """
    try:
        plan = _plan(config, checkpoint, gpus, kernels)
    except _NotPlanned as reason:
        log.info("engine_not_planned", reason=str(reason))
        return config
    if plan.caveat:
        log.warning("engine_may_not_run", reason=plan.caveat)
    budget = plan.budget
    log.info(
        "engine_plan",
        weights_gb=_gb(budget.weights),
        kv_cache_gb=_gb(budget.kv_cache),
        max_model_len=plan.max_seq_len,
        max_num_seqs=plan.max_batch_size,
        max_num_tokens=plan.max_num_tokens,
        max_kv_tokens=plan.max_kv_tokens,
    )
    return _filled(config, plan)


def _plan(
    config: EngineConfig, checkpoint: Checkpoint, gpus: GpuSnapshot, kernels: Kernels
) -> EnginePlan:
    settings = config.tensorrt_llm
    if checkpoint.built is not None:
        raise _NotPlanned("TensorRT engines have their sizes built in")
    if settings.tensor_parallel_size * settings.pipeline_parallel_size > 1:
        raise _NotPlanned("the planner knows one GPU only")
    spec = _spec(gpus)
    model = _model(checkpoint.folder)
    stored = model.stored
    if stored is not None and stored.precision is None:
        raise _NotPlanned(f"the planner does not know weights in {stored.format}")
    return fill(
        model.shape,
        spec,
        "bf16" if stored is None or stored.precision is None else stored.precision,
        _wishes(config, settings),
        weights=None if stored is None else stored.num_bytes,
        kernels=kernels,
    )


def _spec(gpus: GpuSnapshot) -> GpuSpec:
    """The first GPU that CUDA sees, with the memory that no other process uses."""
    visible = visible_gpus(gpus.gpus)
    if not visible:
        raise _NotPlanned(gpus.problem or "there is no GPU")
    spec = spec_of(visible[0])
    if spec is None:
        raise _NotPlanned(f"the driver tells too little about {visible[0].name or 'the GPU'}")
    return msgspec.structs.replace(spec, memory_bytes=_available(visible[0], spec))


def _available(gpu: GpuReading, spec: GpuSpec) -> int:
    return spec.memory_bytes if gpu.memory_free is None else min(gpu.memory_free, spec.memory_bytes)


def _model(folder: Path) -> PlannedModel:
    try:
        return find_planned_model(str(folder), ModelStore())
    except ModelFileError:
        raise
    except SetupError as error:
        raise _NotPlanned(str(error)) from error


def _wishes(config: EngineConfig, settings: TensorRTConfig) -> Wishes:
    num_tokens = settings.max_num_tokens
    return Wishes(
        context=None if config.max_model_len == "auto" else config.max_model_len,
        max_batch_size=config.max_num_seqs,
        max_num_tokens=None if num_tokens == "auto" else num_tokens,
        kv_cache_dtype="fp8" if settings.kv_cache.dtype == "fp8" else "auto",
    )


def _filled(config: EngineConfig, plan: EnginePlan) -> EngineConfig:
    settings = config.tensorrt_llm
    cache = settings.kv_cache
    if cache.free_gpu_memory_fraction == "auto":
        fraction = plan.free_gpu_memory_fraction
        cache = msgspec.structs.replace(cache, free_gpu_memory_fraction=fraction)
    if not cache.max_attention_window:
        cache = msgspec.structs.replace(cache, max_attention_window=plan.max_attention_window)
    settings = msgspec.structs.replace(settings, kv_cache=cache, max_num_tokens=plan.max_num_tokens)
    return msgspec.structs.replace(config, max_model_len=plan.max_seq_len, tensorrt_llm=settings)


def _gb(num_bytes: int) -> float:
    return round(num_bytes / 1e9, 2)
