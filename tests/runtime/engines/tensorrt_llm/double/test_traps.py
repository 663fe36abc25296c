"""Habits of the package that the engine relies on or steers around (contract table)."""

import asyncio
import math
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.engines.tensorrt_llm.double.harness import (
    END_OF_TEXT,
    PROMPT,
    VOCAB,
    WAIT,
    Double,
    Start,
    stream,
    turns,
    until,
)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"build_config": {}}, "build_config.*_tensorrt_engine"),
        ({"max_batchsize": 4}, "got invalid argument: max_batchsize"),
        ({"max_batch_size": "many"}, "max_batch_size"),
        ({"kv_cache_config": {"fraction": 0.5}}, "fraction"),
        ({"cuda_graph_config": {"batch_sizes": [1, 8], "max_batch_size": 4}}, "batch_sizes"),
        ({"speculative_config": {"max_draft_len": 2}}, "decoding_type"),
        ({"speculative_config": {"decoding_type": "NGram"}}, "max_draft_len"),
        ({"speculative_config": {"decoding_type": "Medusa"}}, "pytorch backend|invalid decoding"),
    ],
)
def test_wrong_arguments_are_value_errors(
    start: Start, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        start(**arguments)


@pytest.mark.parametrize(
    ("faults", "arguments", "message"),
    [
        ([{"kind": "out_of_memory"}], {}, "insufficient GPU memory"),
        ([{"kind": "bad_checkpoint"}], {}, "worker returned error"),
        ([], {"guided_decoding_backend": "xgrammar"}, "worker returned error"),
    ],
)
def test_start_up_may_fail(
    start: Start, faults: list[Any], arguments: dict[str, Any], message: str
) -> None:
    """The last one has no tokenizer."""
    with pytest.raises(RuntimeError, match=message):
        start({"faults": faults}, **arguments)


def test_shutdown_may_come_twice_and_is_seen(double: Double, start: Start) -> None:
    llm = start()
    assert llm._check_health()
    llm.shutdown()
    llm.shutdown()
    assert not llm._check_health()
    with pytest.raises(RuntimeError, match="LLM is shutting down"):
        llm.generate_async(PROMPT, double.params())


WRONG: tuple[dict[str, Any], ...] = (
    {"top_p": 1.1},
    {"top_k": -1},
    {"temperature": -0.1},
    {"temperature": math.nan},
    {"min_p": 7.0},
    {"logprobs": 101},
)


@pytest.mark.parametrize("fields", WRONG, ids=str)
def test_parameters_are_checked_a_little(double: Double, fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        double.SamplingParams(**fields)
    with pytest.raises(TypeError):
        double.SamplingParams(anything=1)
    unchecked = {"max_tokens": -5, "repetition_penalty": -1.0}
    double.SamplingParams(**unchecked)  # must not raise


@pytest.mark.parametrize("field", ["n", "stop", "bad_token_ids", "embedding_bias"])
def test_what_is_not_played_is_no_secret(double: Double, start: Start, field: str) -> None:
    asked = double.params(temperature=1.0)
    setattr(asked, field, 2)
    with pytest.raises(NotImplementedError, match=field):
        start().generate_async(PROMPT, asked)


@pytest.mark.parametrize(
    ("fields", "greedy"),
    [
        ({}, True),
        ({"temperature": 0}, True),
        ({"temperature": 0.7, "top_k": 1}, True),
        ({"top_p": 0}, True),
        ({"temperature": 1.0}, False),
        ({"top_p": 1.0}, False),
        ({"top_k": 0}, False),
    ],
    ids=str,
)
async def test_the_greedy_rule(
    double: Double, start: Start, fields: dict[str, Any], greedy: bool
) -> None:
    output = await double.output(start(), max_tokens=40, **fields)
    assert (output.token_ids == double.answer(PROMPT, 40)) == greedy


def test_what_raises_at_once(double: Double, start: Start) -> None:
    llm = start()
    with pytest.raises(TypeError, match="SamplingParams"):
        llm.generate_async(PROMPT, {"max_tokens": 3})
    with pytest.raises(TypeError, match="inputs"):
        llm.generate_async({"text": "a"}, double.params())
    with pytest.raises(ValueError, match="tokenizer is required to reset end_id"):
        llm.generate_async(PROMPT, double.SamplingParams())
    if double.fact("generate_async.priority"):
        with pytest.raises(ValueError, match="priority"):
            llm.generate_async(PROMPT, double.params(), priority=1.5)


async def test_a_prompt_without_room_fails_when_awaited(double: Double, start: Start) -> None:
    llm = start(max_seq_len=8)
    result = llm.generate_async(list(range(8)), double.params())
    with pytest.raises(double.RequestError, match="max_seq_len"):
        await result
    assert (await double.output(llm, list(range(3, 8)), max_tokens=100)).length == 3


async def test_the_parameters_are_changed_in_place(
    double: Double, start_with_tokenizer: Start
) -> None:
    params = double.SamplingParams(max_tokens=1, detokenize=False)
    await start_with_tokenizer().generate_async(PROMPT, params)
    assert (params.end_id, params.pad_id) == (END_OF_TEXT, END_OF_TEXT)
    assert params.stop_token_ids == [300]


async def test_an_object_made_without_a_loop_cannot_be_awaited(
    double: Double, start: Start
) -> None:
    llm = start()
    made: list[Any] = []
    thread = threading.Thread(
        target=lambda: made.append(llm.generate_async(PROMPT, double.params()))
    )
    thread.start()
    thread.join()
    with pytest.raises(AssertionError, match="event loop"):
        await made[0]


async def test_streaming_is_cumulative_in_one_object(double: Double, start: Start) -> None:
    result = start().generate_async(
        {"prompt_token_ids": PROMPT}, double.params(max_tokens=5), streaming=True
    )
    expected = double.answer(PROMPT, 5)
    seen = []
    async for item in result:
        assert item is result
        seen.append(list(item.outputs[0].token_ids))
    assert seen == [expected[:length] for length in range(1, 6)]
    assert (result.finished, result.outputs[0].finish_reason) == (True, "length")


async def test_speculation_gives_several_tokens_at_once(double: Double, start: Start) -> None:
    llm = start({"tokens_per_step": 3})
    seen = await stream(llm.generate_async(PROMPT, double.params(max_tokens=8), streaming=True))
    assert [len(tokens) for tokens in seen] == [3, 6, 8]
    assert seen[-1] == double.answer(PROMPT, 8)


async def test_the_end_may_be_shorter_than_what_was_streamed(double: Double, start: Start) -> None:
    llm = start({"say": [5, 6, 7, 8]})
    cut, kept = [
        llm.generate_async(PROMPT, double.params(stop_token_ids=[7], **fields), streaming=True)
        for fields in ({}, {"include_stop_str_in_output": True})
    ]
    assert await stream(cut) == [[5], [5, 6], [5, 6]]
    assert await stream(kept) == [[5], [5, 6], [5, 6, 7]]
    assert cut.outputs[0].stop_reason == kept.outputs[0].stop_reason == 7


async def test_cached_tokens_are_whole_blocks(double: Double, start: Start) -> None:
    llm = start(kv_cache_config={"tokens_per_block": 4})
    prompt = list(range(3, 14))
    results = [
        await llm.generate_async(prompt, double.params(max_tokens=1), cache_salt=salt)
        for salt in (None, None, "other")
    ]
    assert [result.cached_tokens for result in results] == [0, 8, 0]


async def test_abort_ends_in_a_final_response(double: Double, start: Start) -> None:
    """Whether it runs or waits; after a shutdown there is nobody to ask."""
    llm = start({"step_ms": 1}, max_batch_size=1)
    running, waiting = [
        llm.generate_async(PROMPT, double.params(max_tokens=900), streaming=True) for _ in range(2)
    ]
    await anext(running)
    async with asyncio.timeout(WAIT):
        for result in (waiting, running):
            result.abort()
            await result
            assert (result.finished, result.outputs[0].finish_reason) == (True, "cancelled")
    assert waiting.outputs[0].token_ids == []
    llm.shutdown()
    with pytest.raises(AssertionError):
        running.abort()


async def test_a_logits_processor_changes_logits_in_place(double: Double, start: Start) -> None:
    calls: list[tuple[Any, ...]] = []

    def processor(
        req_id: int, logits: Any, token_ids: Any, stream_ptr: Any, client_id: Any
    ) -> None:
        calls.append((tuple(logits.shape), token_ids, stream_ptr))
        logits.numpy()[:, :, 40 + len(calls)] += 100.0

    output = await double.output(start(), max_tokens=3, logits_processor=processor)
    assert output.token_ids == [41, 42, 43]
    assert calls[0] == ((1, 1, VOCAB), [PROMPT], None)
    assert calls[2][1] == [[*PROMPT, 41, 42]]


GUIDES = [
    ({"json": {"type": "object", "properties": {"n": {"type": "integer"}}}}, '{"n": 1}'),
    ({"json_object": True}, '{"answer": 1}'),
    ({"regex": "(no|yes)[0-9]{2}"}, "no00"),
    ({"grammar": 'root ::= "left" | "right"'}, "left"),
]


@pytest.mark.parametrize(("guide", "text"), GUIDES, ids=[str(g) for g, _ in GUIDES])
async def test_a_guide_is_enforced_with_a_backend_and_dropped_without(
    double: Double, start_with_tokenizer: Start, guide: dict[str, Any], text: str
) -> None:
    for backend, enforced in (("xgrammar", True), ("llguidance", True), (None, False)):
        llm = start_with_tokenizer(guided_decoding_backend=backend)
        guided = double.llmapi.GuidedDecodingParams(**guide)
        output = await double.output(llm, guided_decoding=guided, end_id=None)
        assert (llm.tokenizer.decode(output.token_ids) == text) == enforced


@pytest.mark.parametrize(
    ("backend", "guide"),
    [
        ("xgrammar", {"json": {"type": "nothing"}}),
        ("xgrammar", {"regex": "("}),
        ("llguidance", {"structural_tag": "{}"}),
    ],
)
async def test_a_guide_that_does_not_compile_is_its_requests_error(
    double: Double, start_with_tokenizer: Start, backend: str, guide: dict[str, Any]
) -> None:
    llm = start_with_tokenizer(guided_decoding_backend=backend)
    guided = double.llmapi.GuidedDecodingParams(**guide)
    with pytest.raises(double.RequestError, match=next(iter(guide))):
        await double.output(llm, guided_decoding=guided, end_id=None)


async def test_room_is_reserved_for_whole_answers(double: Double, start: Start) -> None:
    """With a large `max_tokens` requests run one after another, unless the policy is another."""
    for policy, together in (("GUARANTEED_NO_EVICT", 1), ("MAX_UTILIZATION", 4)):
        llm = start(
            {"kv_tokens": 600},
            enable_iter_perf_stats=True,
            scheduler_config={"capacity_scheduler_policy": policy},
        )
        params = [double.params(max_tokens=500) for _ in range(4)]
        await asyncio.gather(*(llm.generate_async([i], p).aresult() for i, p in enumerate(params)))
        most = max(
            r["inflightBatchingStats"]["numScheduledRequests"] for r in llm.get_stats(timeout=WAIT)
        )
        assert most == together


async def test_statistics_come_once_and_only_when_asked_for(double: Double, start: Start) -> None:
    for plan, asked, iterations in (
        ({}, True, [1, 2, 3, 4]),
        ({}, False, []),
        ({"stats_stay_empty": True}, True, []),
    ):
        llm = start(plan, enable_iter_perf_stats=asked)
        await double.output(llm, max_tokens=4)
        records = llm.get_stats(timeout=0.01)
        assert [record["iter"] for record in records] == iterations
        assert all(record["kvCacheStats"]["tokensPerBlock"] == 32 for record in records)
        assert llm.get_stats(timeout=0) == []


async def test_an_error_of_the_engine_waits_for_the_next_submit(
    double: Double, start: Start
) -> None:
    llm = start({"faults": [{"kind": "engine_error", "prompt_has": 99, "message": "lost"}]})
    llm.generate_async([99], double.params(max_tokens=1))
    await until(lambda: bool(llm._executor._errors))
    assert llm._check_health()
    with pytest.raises(RuntimeError, match="lost"):
        llm.generate_async(PROMPT, double.params())
    assert not llm._check_health()


async def test_a_cuda_error_fails_everything_as_request_errors(
    double: Double, start: Start
) -> None:
    llm = start({"step_ms": 1, "faults": [{"kind": "cuda_error", "prompt_has": 99}]})
    other = llm.generate_async(PROMPT, double.params(max_tokens=500), streaming=True)
    await anext(other)
    bad = llm.generate_async([99], double.params())
    for result in (bad, other, llm.generate_async(PROMPT, double.params())):
        with pytest.raises(double.RequestError, match="CUDA error: an illegal memory access"):
            await result
    assert llm._check_health()


async def test_a_hang_is_not_detected(double: Double, start: Start) -> None:
    llm = start({"faults": [{"kind": "hang", "prompt_has": 99}]})
    result = llm.generate_async([99], double.params())
    hanging = asyncio.ensure_future(result.aresult())
    await until(lambda: llm._executor._host._inbox.empty())
    await turns()
    assert not hanging.done()
    assert llm._check_health()
    llm.shutdown()
    await hanging
    assert result.outputs[0].finish_reason is not None


async def test_an_answer_may_run_out_of_time(double: Double, start: Start) -> None:
    output = await double.output(start({"faults": [{"kind": "timeout", "after": 2}]}))
    assert (output.finish_reason, output.length) == ("timeout", 2)


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
                assert (await double.output(llm, max_tokens=2)).length == 2
                (tmp_path / "when").touch()


@pytest.mark.posix("the package runs on Linux alone")
@pytest.mark.parametrize("single", ["0", "1"])
async def test_the_worker_may_be_a_process_that_can_be_killed(
    start: Start, double: Double, monkeypatch: pytest.MonkeyPatch, single: str
) -> None:
    """Unless the package's own variable keeps it in this one."""
    monkeypatch.setenv("TENSORRT_LLM_DOUBLE_WORKER", "process")
    monkeypatch.setenv("TLLM_WORKER_USE_SINGLE_PROCESS", single)
    llm = start({"step_ms": 1})
    assert hasattr(llm._executor._host, "_process") == (single == "0")
    assert (await double.output(llm, max_tokens=4)).token_ids == double.answer(PROMPT, 4)
    if single == "0":
        llm._executor._host._process.kill()
        await until(lambda: llm._executor._dead)
        with pytest.raises(RuntimeError, match="died"):
            llm.generate_async(PROMPT, double.params())
