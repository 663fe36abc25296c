"""Section 3 of the notes: what comes back, and how it changes."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.engines.tensorrt_llm.double.harness import (
    EOS,
    PROMPT,
    WAIT,
    Double,
    Start,
    ids,
    stream,
    turns,
)

pytestmark = pytest.mark.anyio


async def test_3_1_and_3_3_streaming_is_cumulative_in_one_object(
    double: Double, start: Start
) -> None:
    result = start().generate_async(PROMPT, double.params(max_tokens=5), streaming=True)
    expected = double.answer(PROMPT, 5)
    seen, diffs = [], []
    async for item in result:
        assert item is result
        seen.append(list(item.outputs[0].token_ids))
        diffs += item.outputs[0].token_ids_diff
    assert seen == [expected[:length] for length in range(1, 6)]
    assert diffs == expected
    assert result.finished
    assert result.outputs[0].finish_reason == "length"
    assert result.outputs[0].text == ""


async def test_3_1_without_streaming_there_is_one_response(double: Double, start: Start) -> None:
    llm = start()
    assert await stream(llm.generate_async(PROMPT, double.params(max_tokens=5))) == [
        double.answer(PROMPT, 5)
    ]


async def test_3_1_an_object_made_without_a_loop_cannot_be_awaited(
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


def test_3_1_result_ignores_its_timeout(double: Double, start: Start) -> None:
    llm = start({"step_ms": 5})
    result = llm.generate_async(PROMPT, double.params(max_tokens=4))
    assert result.result(timeout=0.0001).finished


async def test_3_1_cached_tokens_are_whole_blocks(double: Double, start: Start) -> None:
    llm = start(kv_cache_config={"tokens_per_block": 4, "event_buffer_max_size": 16})
    prompt = list(range(3, 14))
    first = await llm.generate_async(prompt, double.params(max_tokens=1))
    again = await llm.generate_async(prompt, double.params(max_tokens=1))
    salted = await llm.generate_async(prompt, double.params(max_tokens=1), cache_salt="other")
    assert [r.cached_tokens for r in (first, again, salted)] == [0, 8, 0]
    events = [event["data"]["type"] for event in llm.get_kv_cache_events()]
    assert events == ["created", "stored", "stored"]
    assert [event async for event in llm.get_kv_cache_events_async()] == []


@pytest.mark.parametrize("interval", [2, 3])
async def test_3_3_stream_interval(double: Double, start: Start, interval: int) -> None:
    llm = start(stream_interval=interval)
    lengths = [
        len(tokens)
        for tokens in await stream(
            llm.generate_async(PROMPT, double.params(max_tokens=8), streaming=True)
        )
    ]
    expected = list(range(interval, 9, interval))
    first = [1] if double.fact("first_token_at_once") else []
    assert lengths == [*first, *expected, *([8] if expected[-1] != 8 else [])]


async def test_5_4_speculation_gives_several_tokens_at_once(double: Double, start: Start) -> None:
    llm = start({"tokens_per_step": 3})
    seen = await stream(llm.generate_async(PROMPT, double.params(max_tokens=8), streaming=True))
    assert [len(tokens) for tokens in seen] == [3, 6, 8]
    assert seen[-1] == double.answer(PROMPT, 8)


async def test_3_3_the_end_may_be_shorter_than_what_was_streamed(
    double: Double, start: Start
) -> None:
    llm = start({"say": [5, 6, 7, 8]})
    params = double.params(stop_token_ids=[7])
    seen = await stream(llm.generate_async(PROMPT, params, streaming=True))
    assert seen == [[5], [5, 6], [5, 6]]


async def test_3_3_a_stop_of_several_tokens_shrinks_the_list(
    double: Double, start_with_tokenizer: Start
) -> None:
    llm = start_with_tokenizer({"say": ids("abcdef")})
    result = llm.generate_async(PROMPT, double.SamplingParams(stop=["cde"]), streaming=True)
    seen = [(len(r.outputs[0].token_ids), r.outputs[0].text) async for r in result]
    assert seen == [(1, "a"), (2, "ab"), (3, "abc"), (4, "abcd"), (2, "ab")]
    assert result.outputs[0].stop_reason == "cde"
    kept = double.SamplingParams(stop=["cde"], include_stop_str_in_output=True)
    assert (await llm.generate_async(PROMPT, kept)).outputs[0].text == "abcde"


async def test_3_3_text_holds_back_a_cut_character(
    double: Double, start_with_tokenizer: Start
) -> None:
    from tokenizers import Tokenizer

    llm = start_with_tokenizer()
    said = Tokenizer.from_file(str(llm._folder / "tokenizer.json")).encode("a日").ids
    llm = start_with_tokenizer({"say": said})
    result = llm.generate_async(PROMPT, double.SamplingParams(), streaming=True)
    diffs = [item.outputs[0].text_diff async for item in result]
    assert diffs == ["a", "", "", "日", ""]


async def test_3_4_other_outputs_keep_their_old_diffs(double: Double, start: Start) -> None:
    llm = start()
    params = double.params(n=2, temperature=1.0, max_tokens=3)
    result = llm.generate_async(PROMPT, params, streaming=True)
    naive: dict[int, list[int]] = {0: [], 1: []}
    changed = []
    before = [0, 0]
    async for item in result:
        lengths = [len(output.token_ids) for output in item.outputs]
        changed.append(sum(a != b for a, b in zip(lengths, before, strict=True)))
        before = lengths
        for output in item.outputs:
            naive[output.index] += output.token_ids_diff
    assert changed == [1] * 6
    assert any(naive[output.index] != output.token_ids for output in result.outputs)
    assert result.outputs[0].token_ids != result.outputs[1].token_ids
    assert [output.finish_reason for output in result.outputs] == ["length", "length"]


async def test_3_4_the_best_of_several_are_numbered_anew(double: Double, start: Start) -> None:
    params = double.params(n=2, best_of=5, temperature=1.5, max_tokens=4)
    result = await start().generate_async(PROMPT, params)
    scores = [output.cumulative_logprob for output in result.outputs]
    assert [output.index for output in result.outputs] == [0, 1]
    assert scores == sorted((o.cumulative_logprob for o in result._outputs), reverse=True)[:2]


async def test_3_5_the_end_token(double: Double, start: Start) -> None:
    expected = [5, 6, EOS] if double.fact("eos_in_token_ids") else [5, 6]
    output = (await start({"say": [5, 6]}).generate_async(PROMPT, double.params())).outputs[0]
    assert (output.token_ids, output.finish_reason) == (expected, "stop")
    assert output.stop_reason is None
    llm = start({"say": [5, 6], "eos_in_token_ids": False})
    output = (await llm.generate_async(PROMPT, double.params(logprobs=1))).outputs[0]
    assert (output.token_ids, len(output.logprobs)) == ([5, 6], 2)


async def test_3_5_stop_token_ids(double: Double, start: Start) -> None:
    llm = start({"say": [5, 6, 7]})
    for kept, expected in ((False, [5]), (True, [5, 6])):
        params = double.params(stop_token_ids=[6], include_stop_str_in_output=kept)
        output = (await llm.generate_async(PROMPT, params)).outputs[0]
        assert (output.token_ids, output.stop_reason) == (expected, 6)
        assert output.finish_reason == "stop"


async def test_3_5_a_stop_found_in_the_text_leaves_the_tokens(
    double: Double, start: Start, tmp_path: Path
) -> None:
    """The stop string's tokens never come, its text does: another token spells it."""
    from tokenizers import Tokenizer, decoders, models

    vocab = {"a": 0, "b": 1, "c": 2, "bc": 3}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    llm = start({"say": [0, 3, 0, 0]}, skip_tokenizer_init=False)
    result = llm.generate_async([9], double.SamplingParams(stop="b"), streaming=True)
    seen = [(item.outputs[0].text, list(item.outputs[0].token_ids)) async for item in result]
    assert seen == [("a", [0]), ("a", [0, 3])]
    assert result.finished
    assert result.outputs[0].stop_reason == "b"


async def test_3_5_abort_ends_in_a_final_response(double: Double, start: Start) -> None:
    llm = start({"step_ms": 1})
    params = double.params(n=2, temperature=1.0, max_tokens=900)
    result = llm.generate_async(PROMPT, params, streaming=True)
    await anext(result)
    result.abort()
    assert result.aborted()
    async with asyncio.timeout(WAIT):
        await result
    assert result.finished
    assert [output.finish_reason for output in result.outputs] == ["cancelled", "cancelled"]


async def test_3_5_abort_of_one_who_waits(double: Double, start: Start) -> None:
    llm = start({"step_ms": 1}, max_batch_size=1)
    running = llm.generate_async(PROMPT, double.params(max_tokens=900), streaming=True)
    await anext(running)
    waiting = llm.generate_async(PROMPT, double.params(max_tokens=900), streaming=True)
    waiting.abort()
    async with asyncio.timeout(WAIT):
        await waiting
    assert waiting.outputs[0].finish_reason == "cancelled"
    assert waiting.outputs[0].token_ids == []
    running.abort()
    await running


async def test_3_5_abort_after_shutdown_fails(double: Double, start: Start) -> None:
    llm = start({"step_ms": 1})
    result = llm.generate_async(PROMPT, double.params(max_tokens=900), streaming=True)
    llm.shutdown()
    with pytest.raises(AssertionError):
        result.abort()


async def test_3_5_an_error_does_not_end_the_iteration(double: Double, start: Start) -> None:
    """Who iterates again waits for ever."""
    llm = start({"faults": [{"kind": "request_error", "prompt_has": 99, "after": 1}]})
    result = llm.generate_async([99], double.params(max_tokens=4), streaming=True)
    await anext(result)
    with pytest.raises(double.RequestError, match="failed in the engine"):
        await anext(result)
    assert not result.finished
    again = asyncio.ensure_future(anext(result))
    other = await llm.generate_async(PROMPT, double.params(max_tokens=4))
    await turns()
    assert not again.done()
    again.cancel()
    assert other.outputs[0].token_ids == double.answer(PROMPT, 4)


async def test_3_5_timeout_of_the_engine(double: Double, start: Start) -> None:
    llm = start({"faults": [{"kind": "timeout", "after": 2}]})
    output = (await llm.generate_async(PROMPT, double.params())).outputs[0]
    assert (output.finish_reason, output.length) == ("timeout", 2)


async def test_3_6_logprobs(double: Double, start: Start) -> None:
    params = double.params(max_tokens=5, logprobs=2)
    output = None
    async for item in start().generate_async(PROMPT, params, streaming=True):
        output = item.outputs[0]
        assert len(output.logprobs) == output.length
        assert len(output.logprobs_diff) == 1
    assert output is not None
    for token, entry in zip(output.token_ids, output.logprobs, strict=True):
        assert len(entry) == 2
        assert entry[token].rank == 1
        assert entry[token].logprob == max(score.logprob for score in entry.values()) < 0
    total = sum(e[t].logprob for t, e in zip(output.token_ids, output.logprobs, strict=True))
    assert output.cumulative_logprob == pytest.approx(total)


async def test_3_6_the_sampled_token_may_be_missing(double: Double, start: Start) -> None:
    params = double.params(max_tokens=30, logprobs=1, temperature=1.5)
    output = (await start().generate_async(PROMPT, params)).outputs[0]
    pairs = zip(output.token_ids, output.logprobs, strict=True)
    missing = [token for token, entry in pairs if token not in entry]
    assert bool(missing) != double.fact("logprobs_always_have_sampled_token")


async def test_3_6_logprobs_0(double: Double, start: Start) -> None:
    output = (
        await start().generate_async(PROMPT, double.params(max_tokens=2, logprobs=0))
    ).outputs[0]
    if double.fact("logprobs_0_gives_sampled_token"):
        assert [list(entry) for entry in output.logprobs] == [[t] for t in output.token_ids]
    else:
        assert output.logprobs is None


async def test_3_6_prompt_logprobs(double: Double, start: Start) -> None:
    llm = start(kv_cache_config={"tokens_per_block": 4})
    prompt = list(range(3, 14))
    params = [double.params(max_tokens=1, prompt_logprobs=1) for _ in range(2)]
    first = (await llm.generate_async(prompt, params[0])).outputs[0].prompt_logprobs
    reused = (await llm.generate_async(prompt, params[1])).outputs[0].prompt_logprobs
    assert (len(first), len(reused)) == (11, 3)
    named = all(t in entry for t, entry in zip(prompt[1:], first[:-1], strict=True))
    assert named == double.fact("prompt_logprobs_always_have_prompt_token")
