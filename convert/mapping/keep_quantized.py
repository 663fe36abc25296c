"""The levels of AWQ's and GPTQ's integers, where TensorRT-LLM's int4 layout can take them over.

Its grid has no zero point, and one step for each output and 128 inputs in their order. Levels of
larger groups fit too: their steps are written several times.
"""

import numpy as np

from convert.source.folder import FolderSource
from convert.target.layouts import Grid, as_dtype
from convert.target.recipe import INT4_GROUP, KEPT, Dtype, Recipe
from convert.tensors.weights import Weight
from runtime.errors import SetupError

_BITS = 4


def check_levels(source: FolderSource, weights: list[Weight], recipe: Recipe) -> None:
    """Raises SetupError, with the reason, for a weight whose levels the target cannot hold."""
    for weight in weights:
        if recipe.precision_of(weight) == KEPT and (problem := _problem(source, weight)):
            raise SetupError(
                f"{source.folder}: {weight.source}: its levels cannot be kept: {problem}."
                " --requantize rounds its decoded values again."
            )


def kept_grid(source: FolderSource, weight: Weight, dtype: Dtype) -> Grid:
    """The grid of a weight that `check_levels` has passed, with steps in the model's type."""
    packed = source.load_packed(weight.source, integers=False)
    inputs = weight.shape[1]
    group_size = packed.packing.inputs_per_group(inputs)
    steps = as_dtype(packed.scales, dtype)
    # all values of such a group are zero
    steps[steps == 0] = 1.0
    repeated = np.repeat(steps.T, group_size // INT4_GROUP, axis=1)
    return Grid(steps=np.ascontiguousarray(repeated))


def _problem(source: FolderSource, weight: Weight) -> str:
    packed = source.load_packed(weight.source, integers=False)
    if packed.packing.bits != _BITS:
        return f"its levels have {packed.packing.bits} bits, TensorRT-LLM's {_BITS}"
    inputs = weight.shape[1]
    group_size = packed.packing.inputs_per_group(inputs)
    if group_size % INT4_GROUP or inputs % group_size:
        return f"its groups are of {group_size} inputs, TensorRT-LLM's of {INT4_GROUP}"
    if (packed.groups != np.arange(inputs) // group_size).any():
        return "its groups are not of inputs in their order (`g_idx`, desc_act)"
    if uneven := packed.num_uneven_zeros():
        return (
            f"{uneven} of its {packed.scales.size} zero points are not 8 (the integers are not"
            " symmetric), and TensorRT-LLM's layout has none"
        )
    return ""
