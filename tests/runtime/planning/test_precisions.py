"""Which GPU runs which format of weights."""

import pytest

from runtime.errors import SetupError
from runtime.hardware.gpu_table import find_gpu
from runtime.planning.config_shape import shape_of_config
from runtime.planning.known_shapes import KNOWN_CONFIGS
from runtime.planning.planner import Plan, PrecisionPlan, fill, make_plan
from runtime.planning.precisions import PrecisionName

SHAPES = {name: shape_of_config(config, name) for name, config in KNOWN_CONFIGS.items()}
QWEN3_8B, RTX_4070 = SHAPES["qwen3-8b"], find_gpu("rtx-4070")


def row(plan: Plan, precision: PrecisionName) -> PrecisionPlan:
    return next(row for row in plan.rows if row.precision == precision)


SUPPORT = [
    ("rtx-3090", {"bf16", "int8", "int4_awq"}),
    ("a100-80gb", {"bf16", "int8", "int4_awq"}),
    ("rtx-4070", {"bf16", "fp8", "int8", "int4_awq", "w4a16_nvfp4"}),
    ("h100", {"bf16", "fp8", "fp8_block", "int8", "int4_awq", "w4a16_nvfp4"}),
    ("b200", {"bf16", "fp8", "int8", "int4_awq", "nvfp4", "mxfp4", "mxfp8", "w4a16_nvfp4"}),
    ("rtx-5090", {"bf16", "fp8", "int8", "int4_awq", "nvfp4", "mxfp4", "mxfp8", "w4a16_nvfp4"}),
]


@pytest.mark.parametrize(("gpu", "runs"), SUPPORT)
def test_what_a_generation_runs(gpu: str, runs: set[str]) -> None:
    plan = make_plan(QWEN3_8B, find_gpu(gpu))
    assert {row.precision for row in plan.rows if row.support.can_run} == runs


@pytest.mark.parametrize("gpu", ["rtx-5060", "rtx-5070", "rtx-5090", "rtx-pro-6000"])
def test_awq_on_rtx_blackwell_takes_late_kernels(gpu: str) -> None:
    """Release 1.2 answers wrongly there; who plans without the package is told."""
    shape, card = SHAPES["qwen3-0.6b"], find_gpu(gpu)
    planned, stable, late = (
        row(make_plan(shape, card, kernels=kernels), "int4_awq").support
        for kernels in ("unknown", "stable", "late")
    )
    assert (planned.can_run, stable.can_run, late.can_run) == (True, False, True)
    assert "candidate of 1.3" in planned.note
    assert late.note == ""
    with pytest.raises(SetupError, match=r"candidate of 1\.3"):
        fill(shape, card, "int4_awq", kernels="stable")
    assert fill(shape, card, "int4_awq").caveat == planned.note
    assert fill(shape, card, "int4_awq", kernels="late").caveat == ""


@pytest.mark.parametrize(
    ("gpu", "word"), [("rtx-4070", "unpacked"), ("h100", "unpacked"), ("rtx-5070", "")]
)
def test_4_bit_floats_for_weights_alone_take_late_kernels(gpu: str, word: str) -> None:
    """Only RTX Blackwell has a kernel that leaves them packed."""
    shape, card = SHAPES["qwen3-0.6b"], find_gpu(gpu)
    with pytest.raises(SetupError, match=r"candidate of 1\.3"):
        fill(shape, card, "w4a16_nvfp4", kernels="stable")
    late = fill(shape, card, "w4a16_nvfp4", kernels="late").caveat
    assert word in late
    assert bool(late) == bool(word)


def test_old_kernels_are_enough_elsewhere() -> None:
    for gpu in ("rtx-3090", "rtx-4070", "h100", "b200"):
        assert fill(SHAPES["qwen3-0.6b"], find_gpu(gpu), "int4_awq", kernels="stable").caveat == ""


def test_advice_keeps_to_what_the_installed_kernels_run() -> None:
    with pytest.raises(SetupError) as old:
        fill(QWEN3_8B, find_gpu("rtx-5070"), "bf16", kernels="stable")
    with pytest.raises(SetupError) as new:
        fill(QWEN3_8B, find_gpu("rtx-5070"), "bf16", kernels="late")
    assert "int4_awq (" not in str(old.value)
    assert "int4_awq (" in str(new.value)


@pytest.mark.parametrize("gpu", ["rtx-4070", "rtx-4090", "l40s", "rtx-6000-ada"])
def test_fp8_by_blocks_on_ada_is_refused_with_a_way_out(gpu: str) -> None:
    with pytest.raises(SetupError, match=r"does not run fp8_block on Ada.*--precision fp8"):
        fill(SHAPES["qwen3-0.6b"], find_gpu(gpu), "fp8_block")


@pytest.mark.parametrize(
    ("gpu", "can_run", "word"),
    [
        ("rtx-3090", False, "sinks"),
        ("rtx-4090", False, "sinks"),
        ("h100", True, ""),
        ("b200", True, ""),
        ("rtx-5090", True, "sinks"),
    ],
)
def test_attention_sinks_do_not_run_everywhere(gpu: str, can_run: bool, word: str) -> None:
    found = row(make_plan(SHAPES["gpt-oss-20b"], find_gpu(gpu)), "bf16").support
    assert found.can_run == can_run
    assert word in found.note
    assert bool(found.note) == bool(word)


def test_int8_of_a_model_with_biases_is_refused() -> None:
    qwen2 = row(make_plan(SHAPES["qwen2.5-7b"], RTX_4070), "int8")
    assert not qwen2.support.can_run
    assert "drops the biases" in qwen2.support.note
    assert row(make_plan(SHAPES["qwen2.5-7b"], RTX_4070), "int4_awq").support.can_run


def test_groups_have_to_fit_the_layers() -> None:
    """2,880 is not a multiple of 128."""
    found = row(make_plan(SHAPES["gpt-oss-20b"], find_gpu("h100")), "int4_awq")
    assert not found.support.can_run
    assert "2880" in found.support.note
