"""The weights of a finished folder as numbers: what a model that loads it computes with."""

from collections.abc import Iterator

import numpy as np

from convert.checks.verify import OutputReader, Target
from convert.target.layouts import make_layout
from convert.target.recipe import ALGORITHMS, KEEP
from convert.tensors.source_tensor import Rows
from convert.tensors.weights import Weight


def decoded_weights(target: Target) -> Iterator[tuple[str, Rows]]:
    """Name and values, in float32, of each weight, with input scales multiplied in."""
    for record in target.manifest.tensors:
        precision = record.precision if record.precision in ALGORITHMS else KEEP
        shape = target.places[record.name].output.shape
        if ALGORITHMS.get(precision) == "W4A16_AWQ":
            shape = (2 * shape[0], shape[1])
        elif ALGORITHMS.get(precision) == "W4A16_NVFP4":
            shape = (shape[0], 2 * shape[1])
        # only a layer that the loader does not fuse has an input scale
        module = record.name.rpartition(".")[0]
        group = "" if f"{module}.pre_quant_scale" in record.crc32 else module
        weight = Weight(name=record.name, source="", shape=shape, linear=True, group=group)
        layout = make_layout(weight, precision, target.manifest.recipe.dtype)
        num_rows = shape[0] if len(shape) > 1 else 1
        part = {}
        for output in layout.outputs():
            with OutputReader(target, output, num_rows) as reader:
                part[output.name] = reader.read(num_rows)
        yield record.name, np.ascontiguousarray(layout.decode(part).reshape(shape))
