"""A mailbox that merges: nothing is lost, nothing comes twice, and it always ends."""

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.client.token_stream import TokenStream
from runtime.errors import EngineError
from runtime.messages.request import RequestOutput, TokenLogprobs


def delta(request_id: str, token: int, *, end: bool = False) -> RequestOutput:
    return RequestOutput(request_id, [token], chr(97 + token % 26), "length" if end else None)


async def collect(stream: TokenStream) -> dict[str, RequestOutput]:
    whole: dict[str, RequestOutput] = {}
    async for outputs in stream:
        for output in outputs:
            before = whole.get(output.request_id)
            tokens = before.token_ids if before else []
            text = before.text if before else ""
            whole[output.request_id] = RequestOutput(
                output.request_id,
                tokens + output.token_ids,
                text + output.text,
                output.finish_reason,
            )
    return whole


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=30))
def test_deltas_arrive_whole_however_they_are_read(steps: list[tuple[int, bool]]):
    """Each step delivers one token to one request, and sometimes lets the reader run."""

    async def run() -> None:
        ids = ["a", "b", "c"]
        stream = TokenStream(ids, lambda unfinished: pytest.fail(f"aborted {unfinished}"))
        expected: dict[str, list[int]] = {request_id: [] for request_id in ids}
        async with anyio.create_task_group() as group:
            result: dict[str, RequestOutput] = {}

            async def read() -> None:
                result.update(await collect(stream))

            group.start_soon(read)
            for number, (which, yield_now) in enumerate(steps):
                stream.push(delta(ids[which], number))
                expected[ids[which]].append(number)
                if yield_now:
                    await anyio.lowlevel.checkpoint()
            for request_id in ids:
                stream.push(delta(request_id, 99, end=True))
                expected[request_id].append(99)
        assert {key: value.token_ids for key, value in result.items()} == expected
        assert all(len(value.text) == len(value.token_ids) for value in result.values())
        assert all(value.finish_reason == "length" for value in result.values())

    anyio.run(run)


@pytest.mark.anyio
async def test_a_reader_that_is_behind_gets_one_merged_delta():
    stream = TokenStream(["a"], lambda unfinished: None)
    for token in range(5):
        stream.push(delta("a", token, end=token == 4))

    assert await anext(stream) == [RequestOutput("a", [0, 1, 2, 3, 4], "abcde", "length")]
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


@pytest.mark.anyio
async def test_a_merged_delta_tells_every_token_and_the_prompt():
    """The prompt's come with the first delta alone, and with the merged one."""
    stream = TokenStream(["a"], lambda unfinished: None)
    entries = [TokenLogprobs(-float(number)) for number in range(3)]
    for number, entry in enumerate(entries):
        prompt = [None, entries[2]] if number == 0 else None
        stream.push(RequestOutput("a", [7], "x", logprobs=[entry], prompt_logprobs=prompt))

    [merged] = await anext(stream)

    assert merged.logprobs == entries
    assert merged.prompt_logprobs == [None, entries[2]]


@pytest.mark.anyio
async def test_close_aborts_the_unfinished_and_wakes_the_reader():
    aborted: list[str] = []
    stream = TokenStream(["a", "b"], aborted.extend)
    stream.push(delta("a", 0, end=True))
    await anext(stream)

    async with anyio.create_task_group() as group:

        async def read() -> None:
            assert await collect(stream) == {}

        group.start_soon(read)
        await anyio.lowlevel.checkpoint()
        stream.close()
        stream.close()

    assert aborted == ["b"]
    assert stream.closed


@pytest.mark.anyio
async def test_an_error_comes_after_what_was_already_there():
    stream = TokenStream(["a"], lambda unfinished: None)
    stream.push(delta("a", 0))
    stream.fail(EngineError("broken"))

    assert await anext(stream) == [delta("a", 0)]
    with pytest.raises(EngineError, match="broken"):
        await anext(stream)


@pytest.mark.anyio
async def test_closing_a_finished_stream_aborts_nothing():
    stream = TokenStream(["a"], lambda unfinished: pytest.fail("aborted"))
    stream.push(delta("a", 0, end=True))

    stream.close()

    assert not stream.closed


@pytest.mark.anyio
async def test_when_a_request_was_let_in_survives_merging():
    stream = TokenStream(["a"], lambda _: None)
    stream.push(RequestOutput("a", [1], "x", seconds_queued=7.5))
    stream.push(RequestOutput("a", [2], "y"))
    (output,) = await anext(stream)
    assert (output.token_ids, output.seconds_queued) == ([1, 2], 7.5)


@pytest.mark.anyio
async def test_one_request_is_aborted_and_the_others_go_on():
    aborted: list[str] = []
    stream = TokenStream(["a", "b"], aborted.extend)
    stream.push(delta("a", 1))
    stream.push(delta("b", 2))
    stream.abort("a")
    stream.abort("a")
    stream.push(delta("a", 3))
    stream.push(delta("b", 4, end=True))
    stream.abort("b")
    assert aborted == ["a"]
    assert {name: each.token_ids for name, each in (await collect(stream)).items()} == {"b": [2, 4]}
