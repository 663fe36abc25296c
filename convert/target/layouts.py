"""The layouts that TensorRT-LLM loads, written and read block by block.

Of one weight `W` of shape (out, in):

bf16, fp16  `weight` [out, in], rounded to even.
fp8         `weight` F8_E4M3 [out, in] = W / s; `weight_scale` F32 [] = s = amax(|W|) / 448, with
            one s for all members of a group. No `input_scale`: activations are scaled as they come.
int8        `weight` I8 [out, in] = round(W / s); `weight_scale` F32 [out] = s = amax(|row|) / 127.
int4        `weight` U8 [out / 2, in], the even row in the low four bits, two's complement, from
            -8 to 7; `weight_scale` F32 [out, in / 128] = s = amax(|128 inputs|) / 7;
            `pre_quant_scale` [in] for layers that the loader does not fuse: the layer multiplies
            its input by it. All ones without calibration; the loader requires the tensor. With
            a `Grid` the scales are taken from it and not computed.

nvfp4-w4a16 is in `nvfp4`.

int8's and int4's scales are rounded to the model's type first: the loader casts them to it.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from convert.target.float8 import E4M3_MAX, from_e4m3, to_e4m3
from convert.target.nvfp4 import Nvfp4Layout
from convert.target.recipe import ALGORITHMS, INT4_GROUP, KEEP, Dtype
from convert.tensors.output import (
    Output,
)
from convert.tensors.source_tensor import Rows
from convert.tensors.weights import Weight

Array = npt.NDArray[np.generic]
Part = Mapping[str, Array]

_INT8_MAX = 127
INT4_MIN, INT4_MAX = -8, 7
_SAFETENSORS_NAMES: dict[Dtype, str] = {"bfloat16": "BF16", "float16": "F16"}


WITH_AMAX = frozenset(("fp8", "nvfp4-w4a16"))
"""Precisions with a scale for a whole group."""


class Grid(Struct, frozen=True):
    """Precomputed int4 levels: `steps` (out, in / 128) is the distance between two levels.

    The layer multiplies its input by `input_scale` (in); the weight is divided by it.
    """

    steps: Rows
    input_scale: Rows | None = None


class Layout(Protocol):
    """Encodes a weight in blocks of whole rows, and decodes what it wrote."""

    def outputs(self) -> tuple[Output, ...]:
        """The tensors of the target, the weight itself first."""
        ...

    def encode(self, rows: Rows) -> Part:
        """The rows that a block adds to each output that has rows, by the output's name."""
        ...

    def constants(self) -> Part:
        """The outputs that do not grow with the rows."""
        ...

    def decode(self, part: Part) -> Rows:
        """The values that a model will load for a block; the outputs have the same names."""
        ...


def make_layout(
    weight: Weight, precision: str, dtype: Dtype, amax: float = 0.0, grid: Grid | None = None
) -> Layout:
    """The layout of a weight. `amax` is its group's largest magnitude, for `WITH_AMAX`; `grid` is
    int4's.

    A layout encodes one weight once, from its first row to its last.
    """
    if precision == KEEP:
        return PlainLayout(weight, dtype)
    if precision == "fp8":
        return Fp8Layout(weight, amax)
    if precision == "int8":
        return Int8Layout(weight, dtype)
    if ALGORITHMS[precision] == "W4A16_NVFP4":
        return Nvfp4Layout(weight, amax)
    assert ALGORITHMS[precision] == "W4A16_AWQ", precision
    return Int4Layout(weight, dtype, grid)


def to_bf16(values: Rows) -> npt.NDArray[np.uint16]:
    """The upper half of each float32, rounded to even."""
    bits = values.view(np.uint32)
    rounded = bits >> np.uint32(16)
    rounded &= np.uint32(1)
    rounded += np.uint32(0x7FFF)
    rounded += bits
    rounded >>= np.uint32(16)
    return rounded.astype(np.uint16)


def from_bf16(values: npt.NDArray[np.uint16]) -> Rows:
    bits = values.astype(np.uint32)
    bits <<= np.uint32(16)
    return bits.view(np.float32)


def pack_int4(values: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """Two rows in one: the even one in the low four bits. The number of rows must be even."""
    nibbles = values.view(np.uint8) & np.uint8(15)
    return nibbles[0::2] | (nibbles[1::2] << np.uint8(4))


def unpack_int4(packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.int8]:
    """The reverse of `pack_int4`."""
    values = np.empty((2 * packed.shape[0], packed.shape[1]), dtype=np.int8)
    # Shifting signed bytes right spreads the sign.
    values[0::2] = (packed << np.uint8(4)).view(np.int8) >> 4
    values[1::2] = packed.view(np.int8) >> 4
    return values


class PlainLayout:
    """bf16 or fp16."""

    def __init__(self, weight: Weight, dtype: Dtype) -> None:
        self._weight = weight
        self._dtype = dtype

    def outputs(self) -> tuple[Output, ...]:
        name = _SAFETENSORS_NAMES[self._dtype]
        return (Output(self._weight.name, name, self._weight.shape),)

    def encode(self, rows: Rows) -> Part:
        if self._dtype == "bfloat16":
            return {self._weight.name: to_bf16(rows)}
        with np.errstate(over="ignore"):  # `check_finite` finds the values that become infinite
            return {self._weight.name: rows.astype(np.float16)}

    def constants(self) -> Part:
        return {}

    def decode(self, part: Part) -> Rows:
        values = part[self._weight.name]
        if self._dtype == "bfloat16":
            return from_bf16(values.view(np.uint16))
        return values.view(np.float16).astype(np.float32)


class Fp8Layout:
    """float8 e4m3 with one scale."""

    def __init__(self, weight: Weight, amax: float) -> None:
        self._weight = weight
        self._scale_name = f"{weight.module}.weight_scale"
        self._scale = np.float32(amax / E4M3_MAX or 1.0)

    def outputs(self) -> tuple[Output, ...]:
        weight = self._weight
        return (
            Output(weight.name, "F8_E4M3", weight.shape),
            Output(self._scale_name, "F32", ()),
        )

    def encode(self, rows: Rows) -> Part:
        return {self._weight.name: to_e4m3(rows / self._scale)}

    def constants(self) -> Part:
        return {self._scale_name: np.array(self._scale, dtype=np.float32)}

    def decode(self, part: Part) -> Rows:
        scale = np.float32(part[self._scale_name])
        values = from_e4m3(part[self._weight.name].view(np.uint8))
        values *= scale
        return values


class Int8Layout:
    """8-bit integers with a scale for each output."""

    def __init__(self, weight: Weight, dtype: Dtype) -> None:
        self._weight = weight
        self._dtype = dtype
        self._scale_name = f"{weight.module}.weight_scale"

    def outputs(self) -> tuple[Output, ...]:
        weight = self._weight
        return (
            Output(weight.name, "I8", weight.shape),
            Output(self._scale_name, "F32", weight.shape[:1]),
        )

    def encode(self, rows: Rows) -> Part:
        scales = _scales(np.abs(rows).max(axis=1), _INT8_MAX, self._dtype)
        scaled = np.rint(rows / scales[:, None])
        values = np.clip(scaled, -_INT8_MAX - 1, _INT8_MAX).astype(np.int8)
        return {self._weight.name: values, self._scale_name: scales}

    def constants(self) -> Part:
        return {}

    def decode(self, part: Part) -> Rows:
        scales = part[self._scale_name].view(np.float32)
        values = part[self._weight.name].view(np.int8).astype(np.float32)
        values *= scales[:, None]
        return values


class Int4Layout:
    """4-bit integers with a scale for each output and 128 inputs, as ModelOpt writes them."""

    def __init__(self, weight: Weight, dtype: Dtype, grid: Grid | None = None) -> None:
        self._weight = weight
        self._dtype = dtype
        self._grid = grid
        self._num_encoded = 0
        self._scale_name = f"{weight.module}.weight_scale"
        self._input_name = f"{weight.module}.pre_quant_scale"

    def outputs(self) -> tuple[Output, ...]:
        rows, columns = self._weight.shape
        outputs = (
            Output(self._weight.name, "U8", (rows // 2, columns)),
            Output(self._scale_name, "F32", (rows, columns // INT4_GROUP)),
        )
        if self._weight.group:
            return outputs
        return (*outputs, Output(self._input_name, _SAFETENSORS_NAMES[self._dtype], (columns,)))

    def encode(self, rows: Rows) -> Part:
        if self._grid is not None and self._grid.input_scale is not None:
            rows = rows / self._grid.input_scale
        groups = rows.reshape(rows.shape[0], -1, INT4_GROUP)
        steps = self._steps(groups)
        scaled = np.rint(groups / steps[..., None])
        values = np.clip(scaled, INT4_MIN, INT4_MAX).astype(np.int8)
        return {self._weight.name: pack_int4(values.reshape(rows.shape)), self._scale_name: steps}

    def constants(self) -> Part:
        if self._weight.group:
            return {}
        scale = self._grid.input_scale if self._grid is not None else None
        if scale is None:
            scale = np.ones(self._weight.shape[1], dtype=np.float32)
        if self._dtype == "bfloat16":
            return {self._input_name: to_bf16(scale)}
        return {self._input_name: scale.astype(np.float16)}

    def decode(self, part: Part) -> Rows:
        steps = part[self._scale_name].view(np.float32)
        values = unpack_int4(part[self._weight.name].view(np.uint8)).astype(np.float32)
        shape = values.shape
        values = values.reshape(shape[0], -1, INT4_GROUP)
        values *= steps[..., None]
        values = values.reshape(shape)
        if self._input_name in part:
            values *= self._input_scale(part[self._input_name])
        return values

    def _steps(self, groups: Rows) -> Rows:
        if self._grid is None:
            return int4_steps(np.abs(groups).max(axis=2), self._dtype)
        start = self._num_encoded
        self._num_encoded += len(groups)
        return np.ascontiguousarray(self._grid.steps[start : self._num_encoded])

    def _input_scale(self, stored: Array) -> Rows:
        if self._dtype == "bfloat16":
            return from_bf16(stored.reshape(-1).view(np.uint16))
        return stored.reshape(-1).view(np.float16).astype(np.float32)


def as_dtype(values: Rows, dtype: Dtype) -> Rows:
    """Rounded to the model's type, as float32."""
    if dtype == "bfloat16":
        return from_bf16(to_bf16(values))
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float32)


def int4_steps(largest: Rows, dtype: Dtype) -> Rows:
    """The distance of int4's levels for groups with these largest magnitudes."""
    return _scales(largest, INT4_MAX, dtype)


def _scales(largest: Rows, levels: int, dtype: Dtype) -> Rows:
    """largest / levels in the model's type; 1 where this is zero or underflows to zero."""
    scales = as_dtype(largest / np.float32(levels), dtype)
    scales[scales == 0] = 1.0
    return scales
