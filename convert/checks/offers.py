"""The result of each precision for a model: the folder's size, and what fits on a GPU."""

from pathlib import Path

import msgspec
from msgspec import Struct

from convert.mapping.folder import folder_config
from convert.mapping.open_model import open_any, open_model
from convert.pipeline.plan import Options, make_plan
from convert.source.folder import FolderSource
from convert.source.gguf import GGUFSource
from convert.target.recipe import ALGORITHMS, PRECISIONS, make_recipe
from runtime.errors import SetupError
from runtime.hardware.gpu_table import GpuSpec
from runtime.planning.config_shape import shape_of_config
from runtime.planning.gguf_shape import shape_of_gguf
from runtime.planning.memory_account import Wishes
from runtime.planning.model_shape import ModelShape
from runtime.planning.planner import Plan, PrecisionPlan
from runtime.planning.planner import make_plan as plan_on_gpu
from runtime.planning.precisions import PrecisionName

# The planner's names of TensorRT-LLM's algorithms.
_PLANNED: dict[str, PrecisionName] = {
    "FP8": "fp8",
    "W8A16": "int8",
    "W4A16_AWQ": "int4_awq",
    "W4A16_NVFP4": "w4a16_nvfp4",
}


class Offer(Struct, frozen=True, kw_only=True):
    """One precision. `num_bytes` is the weights' size on disk, 0 if `refused` gives the reason why
    `lockgate-convert run` does not produce it. `row` is the planner's view of it on the GPU."""

    precision: str
    num_bytes: int
    refused: str
    row: PrecisionPlan


class Offers(Struct, frozen=True):
    """`plan` has the model, the GPU and what is assumed; its rows are those of `offers`."""

    plan: Plan
    offers: tuple[Offer, ...]


def make_offers(path: Path, gpu: GpuSpec, wishes: Wishes, options: Options) -> Offers:
    """Reads headers, configuration and, for AWQ and GPTQ, the arrays that decide about levels.

    Raises ModelFileError for a damaged file, SetupError for a model that cannot be planned, for
    wishes that the model or the GPU cannot grant, and for `requantize` without levels.
    """
    if options.requantize:
        open_model(path, requantize=True)
    planned = {name: _planned(name) for name in PRECISIONS}
    plan = plan_on_gpu(
        _shape(open_any(path), path),
        gpu,
        wishes,
        precisions=tuple(dict.fromkeys(planned.values())),
    )
    rows = {row.precision: row for row in plan.rows}
    kv_cache = "fp8" if wishes.kv_cache_dtype == "fp8" else ""
    offers = []
    for name in PRECISIONS:
        num_bytes, refused = _size(path, name, kv_cache, options)
        row = rows[planned[name]]
        offers.append(Offer(precision=name, num_bytes=num_bytes, refused=refused, row=row))
    return Offers(plan, tuple(offers))


def _shape(source: GGUFSource | FolderSource, path: Path) -> ModelShape:
    if isinstance(source, FolderSource):
        return shape_of_config(folder_config(source), path.resolve().name)
    tensors = tuple(tensor for part in source.parts for tensor in part.tensors)
    return shape_of_gguf(msgspec.structs.replace(source.header, tensors=tensors), path.stem)


def _size(path: Path, precision: str, kv_cache: str, options: Options) -> tuple[int, str]:
    try:
        plan = make_plan(path, make_recipe(precision, kv_cache=kv_cache), options)
    except SetupError as error:
        return 0, str(error)
    return sum(shard.num_bytes for shard in plan.shards), ""


def _planned(precision: str) -> PrecisionName:
    return _PLANNED[ALGORITHMS[precision]] if precision in ALGORITHMS else "bf16"
