"""What stands in for the model: the same answers wherever they are cut."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.tensorrt_double import STABLE
from tests.runtime.engines.tensorrt_llm.double.columns import penalties
from tests.runtime.engines.tensorrt_llm.double.harness import (
    EOS,
    PROMPT,
    VOCAB,
    Double,
    Start,
    loaded,
    stream,
    until,
)

pytestmark = pytest.mark.anyio


async def test_streams_beside_each_other_are_not_mixed_up(double: Double, start: Start) -> None:
    llm = start(max_batch_size=8)
    prompts = [[number, 7, 8] for number in range(3, 35)]
    answers = await asyncio.gather(
        *(
            stream(llm.generate_async(prompt, double.params(max_tokens=12), streaming=True))
            for prompt in prompts
        )
    )
    finals = [answer[-1] for answer in answers]
    assert finals == [double.answer(prompt, 12) for prompt in prompts]
    assert len({tuple(tokens) for tokens in finals}) == len(prompts)


async def test_the_environment_wins_over_the_folder(
    double: Double, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENSORRT_LLM_DOUBLE_SCRIPT", '{"say": [8, 9]}')
    llm = start({"say": [5]})
    assert (await llm.generate_async(PROMPT, double.params())).outputs[0].token_ids[:2] == [8, 9]


def test_a_plan_with_a_misspelt_key_is_refused(start: Start) -> None:
    with pytest.raises(ValueError, match="sya"):
        start({"sya": [5]})


async def test_a_fault_may_strike_once_or_wait_for_a_file(
    double: Double, start: Start, tmp_path: Path
) -> None:
    for key, strikes in (("when", [False, True]), ("once", [True, False])):
        llm = start({"faults": [{"kind": "request_error", key: str(tmp_path / key)}]})
        for strike in strikes:
            if strike:
                with pytest.raises(double.RequestError):
                    await double.output(llm)
            else:
                assert len(await double.tokens(llm, max_tokens=2)) == 2
                (tmp_path / "when").touch()


@pytest.mark.skipif(sys.platform == "win32", reason="the package runs on Linux alone")
@pytest.mark.parametrize("single", ["0", "1"])
async def test_the_worker_may_be_a_process_that_can_be_killed(
    start: Start, double: Double, monkeypatch: pytest.MonkeyPatch, single: str
) -> None:
    """Unless the package's own variable keeps it in this one."""
    monkeypatch.setenv("TENSORRT_LLM_DOUBLE_WORKER", "process")
    monkeypatch.setenv("TLLM_WORKER_USE_SINGLE_PROCESS", single)
    llm = start({"step_ms": 1})
    assert hasattr(llm._executor._host, "_process") == (single == "0")
    assert await double.tokens(llm, max_tokens=4) == double.answer(PROMPT, 4)
    if single == "0":
        llm._executor._host._process.kill()
        await until(lambda: llm._executor._dead)
        with pytest.raises(RuntimeError, match="died"):
            llm.generate_async(PROMPT, double.params())


async def test_the_other_sampler_honours_penalties(double: Double, start: Start) -> None:
    if double.facts.fact("TorchLlmArgs.sampler_type") is double.facts.ABSENT:
        with pytest.raises(ValueError, match="sampler_type"):
            start(sampler_type="TRTLLMSampler")
        return
    assert await penalties(double, start, sampler_type="TRTLLMSampler")


@settings(max_examples=50, deadline=None)
@given(
    prompt=st.lists(st.integers(3, VOCAB - 1), min_size=1, max_size=20),
    cut=st.integers(0, 12),
    plan=st.sampled_from([{}, {"script": (5, 6, 7, 8)}, {"say": (5, 6, 5, 5, 6, 7)}]),
)
def test_an_answer_goes_on_where_it_was_cut(
    prompt: list[int], cut: int, plan: dict[str, Any]
) -> None:
    with loaded(STABLE) as double:
        model = double.token_maker.TokenMaker(double.plan.Plan(**plan), VOCAB, EOS)
    whole = model.answer(prompt, 12)
    rest = model.answer(prompt + whole[:cut], 12 - cut) if EOS not in whole[:cut] else []
    assert whole == whole[:cut] + rest
