"""NVFP4 for weights alone, as TensorRT-LLM's W4A16_NVFP4 loads it.

Of a weight `W` of shape (out, in):

`weight` U8 [out, in / 2], two inputs in a byte, the even one in the low four bits, each W / (s t)
in e2m1; `weight_scale` F8_E4M3 [out, in / 16] = s = amax(|16 inputs|) / 6 / t; `weight_scale_2`
F32 [] = t = amax(|W|) / 6 / 448, with one t for all members of a group, since the loader takes them
for one matrix. Nothing is said of activations, which stay in 16 bits.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from convert.target.float4 import E2M1_MAX, from_e2m1, pack_e2m1, to_e2m1, unpack_e2m1
from convert.target.float8 import E4M3_MAX, from_e4m3, to_e4m3
from convert.target.recipe import NVFP4_GROUP
from convert.tensors.output import Output
from convert.tensors.source_tensor import Rows
from convert.tensors.weights import Weight

_LEAST = np.uint8(1)
_ONE = np.uint8(0x38)

Part = Mapping[str, npt.NDArray[np.generic]]


class Nvfp4Layout:
    """4-bit floats with a scale for each output and 16 inputs. `amax` is the largest magnitude in
    the weight's group."""

    def __init__(self, weight: Weight, amax: float) -> None:
        self._weight = weight
        self._scale_name = f"{weight.module}.weight_scale"
        self._global_name = f"{weight.module}.weight_scale_2"
        self._global = np.float32(amax / E2M1_MAX / E4M3_MAX) or np.float32(1.0)

    def outputs(self) -> tuple[Output, ...]:
        rows, columns = self._weight.shape
        return (
            Output(self._weight.name, "U8", (rows, columns // 2)),
            Output(self._scale_name, "F8_E4M3", (rows, columns // NVFP4_GROUP)),
            Output(self._global_name, "F32", ()),
        )

    def encode(self, rows: Rows) -> Part:
        groups = rows.reshape(rows.shape[0], -1, NVFP4_GROUP)
        scales = _scales(np.abs(groups).max(axis=2), self._global)
        steps = from_e4m3(scales) * self._global
        codes = to_e2m1(groups / steps[..., None])
        return {
            self._weight.name: pack_e2m1(codes.reshape(rows.shape)),
            self._scale_name: scales,
        }

    def constants(self) -> Part:
        return {self._global_name: np.array(self._global, dtype=np.float32)}

    def decode(self, part: Part) -> Rows:
        steps = from_e4m3(part[self._scale_name].view(np.uint8))
        steps *= np.float32(part[self._global_name])
        values = from_e2m1(unpack_e2m1(part[self._weight.name].view(np.uint8)))
        groups = values.reshape(values.shape[0], -1, NVFP4_GROUP)
        groups *= steps[..., None]
        return values


def _scales(largest: Rows, step: np.float32) -> npt.NDArray[np.uint8]:
    """The scales in e4m3, none of them zero: the kernel's quick way to unpack takes no zero."""
    codes = np.maximum(to_e4m3(largest / np.float32(E2M1_MAX) / step), _LEAST)
    codes[largest == 0] = _ONE
    return codes
