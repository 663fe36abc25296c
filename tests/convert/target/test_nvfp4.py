"""4-bit floats, and the layout of weights in them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from convert.target.float4 import E2M1_MAX, from_e2m1, pack_e2m1, to_e2m1, unpack_e2m1
from convert.target.float8 import E4M3_MAX, from_e4m3
from convert.target.nvfp4 import Nvfp4Layout
from convert.tensors.weights import Weight

CODES = np.arange(16, dtype=np.uint8)
ROWS, COLUMNS = 8, 64


def layout(amax: float) -> Nvfp4Layout:
    shape = (ROWS, COLUMNS)
    return Nvfp4Layout(Weight(name="a.o_proj.weight", source="", shape=shape, linear=True), amax)


def matrix(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.02, (ROWS, COLUMNS)).astype(np.float32)


def test_every_code_has_its_value() -> None:
    assert from_e2m1(CODES[:8]).tolist() == [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    assert from_e2m1(CODES[8:]).tolist() == [-0.0, -0.5, -1, -1.5, -2, -3, -4, -6]
    assert np.array_equal(to_e2m1(from_e2m1(CODES)), CODES)


@given(arrays(np.float32, 32, elements=st.floats(-9, 9, width=32)))
def test_the_nearest_value_is_taken(values: np.ndarray) -> None:
    written = from_e2m1(to_e2m1(values))
    nearest = np.abs(values[:, None] - from_e2m1(CODES)[None, :]).min(axis=1)

    assert np.allclose(np.abs(values - written), nearest, atol=0)
    assert np.array_equal(np.signbit(written), np.signbit(values))


def test_ties_go_to_the_even_code() -> None:
    positive = from_e2m1(CODES[:8])
    middles = (positive[1:] + positive[:-1]) / 2
    assert to_e2m1(middles).tolist() == [0, 2, 2, 4, 4, 6, 6]
    assert to_e2m1(-middles).tolist() == [8, 10, 10, 12, 12, 14, 14]


@given(arrays(np.uint8, (3, 8), elements=st.integers(0, 15)))
def test_pairs_of_inputs(codes: np.ndarray) -> None:
    packed = pack_e2m1(codes)

    assert np.array_equal(unpack_e2m1(packed), codes)
    for row in range(3):
        pairs = zip(codes[row, 0::2].tolist(), codes[row, 1::2].tolist(), strict=True)
        assert packed[row].tolist() == [low | high << 4 for low, high in pairs]


def test_the_scales_are_two_levels() -> None:
    rows = matrix()
    amax = float(np.abs(rows).max())
    made = layout(amax)
    part = {**made.encode(rows), **made.constants()}

    whole = float(part["a.o_proj.weight_scale_2"])
    largest = np.abs(rows).reshape(ROWS, COLUMNS // 16, 16).max(axis=2)
    assert whole == pytest.approx(amax / E2M1_MAX / E4M3_MAX)
    scales = from_e4m3(part["a.o_proj.weight_scale"]) * whole
    assert scales == pytest.approx(largest / E2M1_MAX, rel=2**-4)
    assert part["a.o_proj.weight"].shape == (ROWS, COLUMNS // 2)


def test_values_that_the_format_holds_come_back() -> None:
    """The largest of each group is 6, so that its scale is exact."""
    values = from_e2m1(np.random.default_rng(1).integers(0, 16, (ROWS, COLUMNS)).astype(np.uint8))
    values[:, ::16] = 6.0
    made = layout(6.0 * E4M3_MAX)  # the whole matrix's scale is 1
    rows = values.astype(np.float32)

    assert np.array_equal(made.decode({**made.encode(rows), **made.constants()}), rows)


def test_no_scale_is_zero() -> None:
    """The kernel's quick way to unpack takes none."""
    rows = matrix()
    rows[:, :16] = 0.0
    rows[:, 16:32] *= 1e-9
    made = layout(float(np.abs(rows).max()))
    part = {**made.encode(rows), **made.constants()}

    assert (part["a.o_proj.weight_scale"] > 0).all()
    decoded = made.decode(part)
    assert not decoded[:, :32].any()
    assert np.isfinite(decoded).all()
