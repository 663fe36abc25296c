"""Each layout stores what TensorRT-LLM reads, and its error is what rounding costs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from convert.target.layouts import Layout, from_bf16, make_layout, pack_int4, to_bf16, unpack_int4
from convert.target.recipe import Dtype
from convert.tensors.error_meter import DifferenceMeter
from convert.tensors.weights import Weight

ROWS, COLUMNS = 8, 256


def weight(*, group: str = "") -> Weight:
    return Weight(
        name="a.o_proj.weight", source="", shape=(ROWS, COLUMNS), linear=True, group=group
    )


def matrix(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.02, (ROWS, COLUMNS)).astype(np.float32)


def decoded(layout: Layout, rows: np.ndarray) -> np.ndarray:
    return layout.decode({**layout.encode(rows), **layout.constants()})


@given(
    arrays(
        np.int8,
        st.tuples(st.sampled_from([2, 4, 6]), st.integers(1, 9)),
        elements=st.integers(-8, 7),
    )
)
def test_int4_pairs_of_rows(values: np.ndarray) -> None:
    packed = pack_int4(values)

    assert packed.shape == (values.shape[0] // 2, values.shape[1])
    assert np.array_equal(unpack_int4(packed), values)
    for row in range(packed.shape[0]):
        even, odd = values[2 * row].astype(int), values[2 * row + 1].astype(int)
        assert packed[row].tolist() == ((even & 15) | (odd & 15) << 4).tolist()


@given(arrays(np.float32, 20, elements=st.floats(width=32, allow_nan=False)))
def test_bf16_is_the_nearest(values: np.ndarray) -> None:
    written = from_bf16(to_bf16(values))
    bits = written.view(np.uint32)
    neighbours = [(bits + np.uint32(step)).view(np.float32) for step in (0x10000, 0xFFFF0000)]
    finite = np.isfinite(written) & np.isfinite(neighbours[0])

    for neighbour in neighbours:
        ok = finite & np.isfinite(neighbour)
        own = np.abs(written[ok].astype(np.float64) - values[ok])
        assert (own <= np.abs(neighbour[ok].astype(np.float64) - values[ok])).all()
    assert np.array_equal(to_bf16(written), to_bf16(values))


@pytest.mark.parametrize(
    ("precision", "bound"),
    [
        ("keep", 2**-8),
        ("fp8", 0.04),
        ("int8", 0.012),
        ("int4-rtn", 0.15),
        ("nvfp4-w4a16", 0.12),
    ],
)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_errors_are_those_of_rounding(precision: str, bound: float, dtype: Dtype) -> None:
    rows = matrix()
    layout = make_layout(weight(), precision, dtype, float(np.abs(rows).max()))
    meter = DifferenceMeter()
    meter.add(rows, decoded(layout, rows))

    assert bound / 30 < meter.result().error < bound
    assert meter.result().cosine > 1 - bound


@pytest.mark.parametrize("precision", ["keep", "fp8", "int8", "int4-rtn", "nvfp4-w4a16"])
def test_outputs_have_the_shapes_that_were_announced(precision: str) -> None:
    layout = make_layout(weight(), precision, "bfloat16", 1.0)
    part = {**layout.encode(matrix()), **layout.constants()}

    assert {output.name: output.shape for output in layout.outputs()} == {
        name: array.shape for name, array in part.items()
    }
    assert all(part[output.name].nbytes == output.num_bytes for output in layout.outputs())


def test_int4_scales_are_the_largest_of_128_inputs_over_7() -> None:
    rows = matrix()
    part = make_layout(weight(), "int4-rtn", "bfloat16").encode(rows)
    largest = np.abs(rows).reshape(ROWS, 2, 128).max(axis=2)

    assert part["a.o_proj.weight_scale"] == pytest.approx(largest / 7, rel=2**-8)


def test_int4_pre_quant_scale_is_there_where_nothing_is_fused() -> None:
    alone = make_layout(weight(), "int4-rtn", "bfloat16")
    fused = make_layout(weight(group="a.qkv_proj"), "int4-rtn", "bfloat16")
    half = make_layout(weight(), "int4-rtn", "float16")

    ones = alone.constants()["a.o_proj.pre_quant_scale"]
    assert from_bf16(ones.view(np.uint16)).tolist() == [1.0] * COLUMNS
    assert half.constants()["a.o_proj.pre_quant_scale"].tolist() == [1.0] * COLUMNS
    assert not fused.constants()
    assert len(fused.outputs()) == 2


@pytest.mark.parametrize("precision", ["fp8", "int8", "int4-rtn", "nvfp4-w4a16"])
def test_zeros_stay_zeros(precision: str) -> None:
    zeros = np.zeros((ROWS, COLUMNS), dtype=np.float32)

    assert not decoded(make_layout(weight(), precision, "bfloat16", 0.0), zeros).any()


def test_difference_of_known_vectors() -> None:
    meter = DifferenceMeter()
    meter.add(np.array([[3.0, 0.0]], dtype=np.float32), np.array([[3.0, 4.0]], dtype=np.float32))

    assert meter.result().error == pytest.approx(4 / 3)
    assert meter.result().cosine == pytest.approx(3 / 5)
