"""The e4m3 cast gives the nearest of all 253 finite values, ties to even."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convert.target.float8 import E4M3_MAX, from_e4m3, to_e4m3

CODES = np.arange(256, dtype=np.uint8)
FINITE = np.array([code for code in range(256) if code & 0x7F != 0x7F], dtype=np.uint8)


def nearest(value: float) -> int:
    """By looking at every positive code; of two equally near ones the even code."""
    positive = FINITE[FINITE < 0x80]
    distances = np.abs(from_e4m3(positive).astype(np.float64) - min(abs(value), E4M3_MAX))
    best = positive[distances == distances.min()]
    code = int(best[0]) if len(best) == 1 else int(best[best % 2 == 0][0])
    return code | (0x80 if np.signbit(value) else 0)


def test_every_code_comes_back() -> None:
    finite = from_e4m3(FINITE)

    assert np.isfinite(finite).all()
    assert finite.max() == E4M3_MAX == 448.0
    assert np.abs(finite[finite != 0]).min() == 2.0**-9
    assert np.array_equal(to_e4m3(finite), FINITE)


def test_what_is_no_number_stays_none() -> None:
    assert np.isnan(from_e4m3(to_e4m3(np.array([np.nan, -np.nan], dtype=np.float32)))).all()
    assert np.isnan(from_e4m3(CODES)).sum() == 2


def test_what_is_too_large_becomes_the_largest() -> None:
    values = np.array([449, 1e9, np.inf, -480, -np.inf], dtype=np.float32)

    assert from_e4m3(to_e4m3(values)).tolist() == [448, 448, 448, -448, -448]


def test_every_half_way_point_and_its_neighbours() -> None:
    positive = from_e4m3(np.arange(0x7F, dtype=np.uint8))
    middle = ((positive[1:].astype(np.float64) + positive[:-1]) / 2).astype(np.float32)
    around = [middle, np.nextafter(middle, np.float32(0)), np.nextafter(middle, np.float32(999))]
    values = np.concatenate([*around, *(-part for part in around)])

    assert to_e4m3(values).tolist() == [nearest(float(value)) for value in values]


@given(st.floats(width=32, allow_nan=False))
def test_any_number(value: float) -> None:
    assert to_e4m3(np.array([value], dtype=np.float32))[0] == nearest(value)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (128, 64)])
def test_shapes_are_kept(shape: tuple[int, int]) -> None:
    assert to_e4m3(np.zeros(shape, dtype=np.float32)).shape == shape
