"""Section 2 of the notes: generate_async."""

import asyncio
import inspect
import logging
from typing import Any

import pytest

from tests.runtime.engines.tensorrt_llm.double.harness import (
    END_OF_TEXT,
    EOS,
    PROMPT,
    WAIT,
    Double,
    Start,
    ids,
    turns,
)

pytestmark = pytest.mark.anyio


def test_2_1_signature_of_generate_async(double: Double) -> None:
    expected = [
        "self",
        "inputs",
        "sampling_params",
        "lora_request",
        "prompt_adapter_request",
        "streaming",
        "kv_cache_retention_config",
        "disaggregated_params",
        "trace_headers",
        "_postproc_params",
        "scheduling_params",
        "cache_salt",
    ]
    later = [n for n in ("priority", "conversation_params") if double.fact(f"generate_async.{n}")]
    signature = inspect.signature(double.LLM.generate_async)
    assert list(signature.parameters) == expected + later
    assert not inspect.iscoroutinefunction(double.LLM.generate_async)


def test_2_1_priority_where_there_is_one(
    double: Double, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    llm = start()
    if not double.fact("generate_async.priority"):
        with pytest.raises(TypeError, match="priority"):
            llm.generate_async(PROMPT, double.params(), priority=0.9)
        return
    with pytest.raises(ValueError, match="priority"):
        llm.generate_async(PROMPT, double.params(), priority=1.5)
    with caplog.at_level(logging.WARNING, "tensorrt_llm"):
        llm.generate_async(PROMPT, double.params(), priority=0.9).result()
    assert "priority is ignored" in caplog.text


async def test_2_1_priority_orders_those_who_wait(double: Double, start: Start) -> None:
    if double.fact("SchedulerConfig.waiting_queue_policy") is double.facts.ABSENT:
        pytest.skip("the release has no such policy")
    llm = start(
        {"step_ms": 1}, max_batch_size=1, scheduler_config={"waiting_queue_policy": "priority"}
    )
    finished: list[str] = []

    async def one(name: str, priority: float) -> None:
        num_tokens = 300 if name == "first" else 5  # the others are there long before it ends
        params = double.params(max_tokens=num_tokens)
        await llm.generate_async(PROMPT, params, priority=priority)
        finished.append(name)

    async with asyncio.timeout(WAIT), asyncio.TaskGroup() as tasks:
        for name, priority in (("first", 1.0), ("low", 0.2), ("high", 0.9)):
            tasks.create_task(one(name, priority))
            await turns(2)
    assert finished.index("high") < finished.index("low")


@pytest.mark.parametrize("inputs", [PROMPT, {"prompt_token_ids": PROMPT}], ids=["list", "dict"])
async def test_2_2_token_ids(double: Double, start: Start, inputs: Any) -> None:
    result = await start().generate_async(inputs, double.params(max_tokens=4))
    assert result.prompt is None
    assert result.prompt_token_ids == PROMPT
    assert result.outputs[0].token_ids == double.answer(PROMPT, 4)


@pytest.mark.parametrize("inputs", [{"text": "a"}, 7, ["a"]])
def test_2_2_other_inputs_are_type_errors(double: Double, start: Start, inputs: Any) -> None:
    with pytest.raises(TypeError):
        start().generate_async(inputs, double.params())


def test_2_3_what_raises_at_once(double: Double, start: Start) -> None:
    llm = start(max_num_tokens=8)
    with pytest.raises(TypeError, match="SamplingParams"):
        llm.generate_async(PROMPT, {"max_tokens": 3})
    with pytest.raises(ValueError, match="tokenizer is required to reset end_id"):
        llm.generate_async(PROMPT, double.SamplingParams())
    with pytest.raises(ValueError, match="max_beam_width"):
        llm.generate_async(PROMPT, double.params(use_beam_search=True, n=2))


def test_2_3_a_prompt_beyond_max_num_tokens(double: Double, start: Start) -> None:
    assert double.fact("overlong_prompt_raises_request_error")
    llm = start(max_num_tokens=8)
    with pytest.raises(double.RequestError, match="max_num_tokens"):
        llm.generate_async(list(range(9)), double.params())
    chunked = start(max_num_tokens=8, enable_chunked_prefill=True)
    done = chunked.generate_async(list(range(3, 30)), double.params(max_tokens=2)).result()
    assert done.outputs[0].token_ids == double.answer(list(range(3, 30)), 2)


async def test_2_3_a_prompt_without_room_fails_when_awaited(double: Double, start: Start) -> None:
    llm = start(max_seq_len=8)
    result = llm.generate_async(list(range(8)), double.params())
    with pytest.raises(double.RequestError, match="max_seq_len"):
        await result
    clamped = await llm.generate_async(list(range(3, 8)), double.params(max_tokens=100))
    assert clamped.outputs[0].length == 3
    no_limit = await llm.generate_async(list(range(3, 8)), double.params(max_tokens=None))
    assert no_limit.outputs[0].finish_reason == "length"


async def test_2_4_the_parameters_are_changed_in_place(
    double: Double, start_with_tokenizer: Start
) -> None:
    llm = start_with_tokenizer()
    params = double.SamplingParams(stop="zz", max_tokens=1)
    await llm.generate_async(PROMPT, params)
    assert (params.end_id, params.pad_id) == (END_OF_TEXT, END_OF_TEXT)
    assert params.stop_token_ids == [300]
    assert params._get_stop_words() == [[300], ids("zz")]
    with pytest.raises(RuntimeError, match="not processed by tokenizer"):
        llm.generate_async(PROMPT, double.SamplingParams(stop="zz", end_id=END_OF_TEXT))


async def test_2_4_ignore_eos(double: Double, start: Start) -> None:
    llm = start({"eos_after": 2})
    ended = await llm.generate_async(PROMPT, double.params(max_tokens=5))
    went_on = await llm.generate_async(PROMPT, double.params(max_tokens=5, ignore_eos=True))
    assert ended.outputs[0].token_ids[2:] == [EOS]
    assert went_on.outputs[0].length == 5
    assert EOS in went_on.outputs[0].token_ids
