"""One answer in progress, on a real TokenStream."""

import pytest

from gateway.api.openai.responses.protocol import ResponseTools, decode_response_request
from gateway.api.openai.responses.translate import response_job
from gateway.chat.finish import FinishReason
from gateway.generation.assembler import Assembler
from gateway.generation.events import TextDelta
from gateway.generation.job import Job
from gateway.generation.run import AnswerRun
from gateway.observability.metrics.model import ModelMetrics
from runtime.client.token_stream import TokenStream
from runtime.errors import InvalidRequest
from runtime.messages.request import RequestOutput
from tests.kit.jobs import CALLER


def response() -> Job:
    data = decode_response_request(b'{"model": "m", "input": "hi", "top_logprobs": 2}')
    return response_job(data, ResponseTools(), "a", CALLER)


class Answer:
    """A run with one choice, whose engine is the test."""

    def __init__(self) -> None:
        self.aborted: list[str] = []
        self.stream = TokenStream(["r"], self.aborted.extend)
        self.metrics = ModelMetrics()
        assembler = Assembler(["r"], [3])
        self.run = AnswerRun(response(), [], assembler, lambda _: self.stream, self.metrics)

    async def texts(self) -> list[str]:
        events = [event async for events in self.run for event in events]
        return [event.text for event in events if isinstance(event, TextDelta)]


@pytest.mark.anyio
async def test_a_whole_answer():
    answer = Answer()
    with answer.run as run:
        answer.stream.push(RequestOutput("r", [1], "a"))
        answer.stream.push(RequestOutput("r", [1], "b", "stop"))
        assert "".join(await answer.texts()) == "ab"
        assert run.is_finished

    assert run.result().choices[0].text == "ab"
    assert run.record.outcome == "completed"
    assert run.usage_so_far().total_tokens == 5
    assert answer.aborted == []


@pytest.mark.anyio
async def test_a_run_that_is_closed_ends_and_frees_its_sequences():
    answer = Answer()
    with answer.run as run:
        run.close()
        run.close()
        assert await answer.texts() == []

    assert not run.is_finished
    assert run.record.outcome == "aborted"
    assert answer.aborted == ["r"]


@pytest.mark.anyio
async def test_what_the_engine_refuses_is_named_as_in_the_api():
    answer = Answer()
    answer.stream.fail(InvalidRequest("`logprobs` is too much.", param="logprobs"))
    with pytest.raises(InvalidRequest, match="`include`") as caught, answer.run:
        await answer.texts()

    assert caught.value.param == "include"
    assert answer.run.record.outcome == "failed"


@pytest.mark.anyio
@pytest.mark.parametrize("num_read", [0, 1, 2])
@pytest.mark.parametrize("reason", [None, "stop"])
async def test_what_was_generated_counts_though_nobody_has_read_it(
    num_read: int, reason: FinishReason | None
):
    answer = Answer()
    ended: list[int] = []
    answer.run.record.on_end = lambda record: ended.append(record.completion_tokens)
    with answer.run as run:
        for _ in range(num_read):
            answer.stream.push(RequestOutput("r", [1], "a"))
            await anext(run)
        answer.stream.push(RequestOutput("r", [1, 2, 3], "abc", reason))
        run.close()

    assert run.record.outcome == "aborted"
    assert ended == [num_read + 3]
    assert run.record.prompt_tokens == 3
    assert answer.metrics.generation_tokens.value == num_read + 3
    assert answer.metrics.prompt_tokens.value == 3
