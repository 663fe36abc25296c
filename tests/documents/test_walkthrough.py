"""The walk-through from a GGUF file to a server does what the document says, command by command."""

import pytest

from runtime.hardware.gpu_table import find_gpu
from runtime.models.store import ModelStore
from runtime.planning.memory_account import Wishes
from runtime.planning.plan_source import find_planned_model
from runtime.planning.planner import PrecisionPlan, make_plan
from runtime.planning.precisions import PrecisionName
from tests.kit.walkthrough import NOT_HERE, commands, is_for_elsewhere, section

pytestmark = pytest.mark.usefixtures("own_folder")


def test_what_is_left_out_is_there() -> None:
    left_out = [command for command in commands() if is_for_elsewhere(command)]

    assert [" ".join(command[:2]) for command in left_out] == list(NOT_HERE)


def row_of(precision: PrecisionName) -> PrecisionPlan:
    """The planner's word on the model of the document, which is among its known shapes."""
    shape = find_planned_model("qwen3-8b", ModelStore()).shape
    return make_plan(shape, find_gpu("rtx-4070"), Wishes(), precisions=(precision,)).rows[0]


def test_the_figures_are_those_of_the_planner() -> None:
    text = " ".join(section().split())
    fp8, int4 = row_of("fp8"), row_of("int4_awq")
    assert fp8.one_stream
    assert int4.one_stream
    assert int4.largest_batch

    assert f"the weights alone are {row_of('bf16').budget.weights / 1e9:.1f} GB" in text
    assert f"FP8 ({fp8.budget.weights / 1e9:.1f} GB)" in text
    assert f"room for {fp8.num_streams} conversations of 4,096 tokens" in text
    assert f"at most {fp8.one_stream.tokens_per_second:.0f} tokens/s for one of them" in text
    assert f"4 bits ({int4.budget.weights / 1e9:.1f} GB) for {int4.num_streams}" in text
    assert f"at most {int4.one_stream.tokens_per_second:.0f} tokens/s for one and" in text
    assert f"{int4.largest_batch.tokens_per_second:.0f} together" in text


def test_as_many_streams_are_asked_for_as_fit() -> None:
    (serve,) = (command for command in commands() if command[:2] == ["lockgate", "serve"])
    fp8, int4 = row_of("fp8").num_streams, row_of("int4_awq").num_streams

    assert f"engine.max_num_seqs={int4}" in serve
    assert f"(FP8 takes {fp8} in place of {int4})" in section()
