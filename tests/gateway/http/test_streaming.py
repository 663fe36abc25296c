"""Both kinds of response on a real TokenStream, with the test in the place of the server."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.openai.translate.job import chat_job
from gateway.api.openai.writers.chat import ChatWriter
from gateway.api.openai.writers.completion import CompletionWriter
from gateway.generation.assembler import Assembler
from gateway.generation.run import AnswerRun, FinishedDeltas
from gateway.generation.writer import DONE, KEEP_ALIVE, AnswerWriter, Head
from gateway.http.streaming import EventStream, WholeAnswer
from gateway.observability.metrics.model import ModelMetrics
from gateway.observability.request_record import RequestRecord
from runtime.client.token_stream import TokenStream
from runtime.errors import EngineError, EngineOverloaded
from runtime.messages.request import RequestOutput
from tests.kit.jobs import CALLER, chat

HEAD = Head('chatcmpl-"1"', 7, "mödel", "fp_1")
WAIT = 10.0


class Client:
    """What the server is to a response: `receive`, `send`, and a switch that ends the connection.

    `send` marks the exchange as started, as the application does.
    """

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.inbox = [{"type": "http.request", "body": b"", "more_body": False}]
        self.left = asyncio.Event()
        self.wrote = asyncio.Event()
        self.can_write = asyncio.Event()
        self.can_write.set()
        self.scope: dict[str, Any] = {"type": "http"}
        self.request_record = RequestRecord([])
        self.request_record.attach(self.scope)

    async def receive(self) -> dict[str, Any]:
        if self.inbox:
            return self.inbox.pop()
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        await self.can_write.wait()
        if message["type"] == "http.response.start":
            self.request_record.status = message["status"]
        self.sent.append(message)
        self.wrote.set()

    async def has_written(self) -> None:
        await asyncio.wait_for(self.wrote.wait(), WAIT)
        self.wrote.clear()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


class Setup:
    """One answer with one choice, not yet begun."""

    def __init__(self) -> None:
        self.aborted: list[str] = []
        self.stream = TokenStream(["r"], self.aborted.extend)
        self.counted = ModelMetrics()
        self.client = Client()
        self.run = AnswerRun(
            chat_job(chat(), "a", CALLER),
            [],
            Assembler(["r"], [3]),
            lambda _: self.stream,
            self.counted,
        )

    def event_stream(self, *, interval: float = 60.0, usage: bool = False) -> "asyncio.Task[None]":
        return self.start(EventStream(self.run, ChatWriter(HEAD, include_usage=usage), interval))

    def whole_answer(self) -> "asyncio.Task[None]":
        return self.start(WholeAnswer(self.run, ChatWriter(HEAD, include_usage=False)))

    def start(self, response: Callable[..., Any]) -> "asyncio.Task[None]":
        client = self.client
        return asyncio.create_task(response(client.scope, client.receive, client.send))

    def push(self, text: str, finish_reason: Any = None) -> None:
        self.stream.push(RequestOutput("r", [1], text, finish_reason))


async def finished(task: "asyncio.Task[None]") -> None:
    await asyncio.wait_for(task, WAIT)


@pytest.mark.anyio
async def test_stream_writes_and_ends():
    setup = Setup()
    task = setup.event_stream(usage=True)
    setup.push("one")
    await setup.client.has_written()
    setup.push(" two", "stop")
    await finished(task)

    start, first, last = setup.client.sent
    assert start["status"] == 200
    assert first["more_body"] is True
    assert last["more_body"] is False
    assert last["body"].endswith(DONE)
    assert setup.aborted == []
    assert setup.counted.generation_tokens.value == 2
    assert setup.counted.prompt_tokens.value == 3
    assert setup.counted.aborted.value == 0


@pytest.mark.anyio
async def test_what_has_piled_up_goes_out_in_one_write():
    setup = Setup()
    for piece in ("a", "b", "c"):
        setup.push(piece)
    setup.push("d", "length")
    await finished(setup.event_stream())

    _, only = setup.client.sent
    assert only["body"].count(b"data: ") == 4  # role, text, reason, [DONE]
    assert b'"content":"abcd"' in only["body"]


@pytest.mark.anyio
async def test_disconnect_closes_a_waiting_stream():
    setup = Setup()
    task = setup.event_stream()
    setup.push("one")
    await setup.client.has_written()
    setup.client.left.set()
    await finished(task)

    assert setup.aborted == ["r"]
    assert setup.counted.aborted.value == 1
    assert setup.counted.generation_tokens.value == 1


@pytest.mark.anyio
async def test_disconnect_before_anything_was_written():
    for start in (Setup.event_stream, Setup.whole_answer):
        setup = Setup()
        task = start(setup)
        setup.client.left.set()
        await finished(task)

        assert setup.aborted == ["r"]
        assert setup.client.sent == []
        assert setup.counted.aborted.value == 1


@pytest.mark.anyio
async def test_cancellation_closes_the_stream():
    """A server that shuts down cancels; nothing may be awaited any more, and nothing is."""
    for start in (Setup.event_stream, Setup.whole_answer):
        setup = Setup()
        task = start(setup)
        setup.push("one")
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert setup.aborted == ["r"]


@pytest.mark.anyio
async def test_an_early_error_is_raised_before_the_headers():
    for start in (Setup.event_stream, Setup.whole_answer):
        setup = Setup()
        task = start(setup)
        setup.stream.fail(EngineOverloaded("full", retry_after=3))
        with pytest.raises(EngineOverloaded):
            await finished(task)

        assert setup.client.sent == []


@pytest.mark.anyio
async def test_a_late_error_is_one_event_and_done():
    setup = Setup()
    task = setup.event_stream()
    setup.push("one")
    await setup.client.has_written()
    setup.stream.fail(EngineError("it broke"))
    await finished(task)

    last = setup.client.sent[-1]
    event, done, _ = last["body"].split(b"\n\n")
    assert json.loads(event.removeprefix(b"data: "))["error"] == {
        "message": "it broke",
        "type": "server_error",
        "param": None,
        "code": "engine_error",
    }
    assert done == b"data: [DONE]"
    assert last["more_body"] is False
    assert setup.counted.aborted.value == 0
    assert setup.counted.failed.value == 1
    assert setup.counted.generation_tokens.value == 1
    assert setup.counted.prompt_tokens.value == 3


@pytest.mark.anyio
async def test_an_error_of_ours_says_nothing_of_itself():
    """In mid-stream too: the client gets the request's id, the log gets the rest."""
    setup = Setup()
    task = setup.event_stream()
    setup.push("one")
    await setup.client.has_written()
    setup.stream.push(RequestOutput("r", [1], None))  # type: ignore[arg-type]
    setup.stream.fail(ZeroDivisionError("secret"))  # type: ignore[arg-type]
    await finished(task)

    assert b"secret" not in setup.client.body
    assert setup.client.request_record.request_id.encode() in setup.client.body
    assert setup.client.body.endswith(DONE)


@pytest.mark.anyio
async def test_silence_is_filled():
    """Headers with the first comment; text that comes later is not lost."""
    setup = Setup()
    task = setup.event_stream(interval=0.01)
    for _ in range(3):
        await setup.client.has_written()
    setup.push("one", "stop")
    await finished(task)

    assert setup.client.sent[0]["status"] == 200
    assert setup.client.sent[1]["body"] == KEEP_ALIVE
    assert setup.client.body.count(b'"content":"one"') == 1
    assert setup.client.body.endswith(DONE)


@pytest.mark.anyio
async def test_cancellation_during_silence_is_not_swallowed():
    setup = Setup()
    task = setup.event_stream(interval=0.01)
    await setup.client.has_written()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert setup.aborted == ["r"]


@pytest.mark.anyio
async def test_a_client_that_does_not_read_is_waited_for():
    """Silence is the engine's; while a write is stuck the timer must not disturb it."""
    setup = Setup()
    setup.client.can_write.clear()
    task = setup.event_stream(interval=0.01)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(task), 0.1)
    setup.client.can_write.set()
    setup.push("one", "stop")
    await finished(task)

    assert setup.client.body.endswith(DONE)


@pytest.mark.anyio
async def test_a_busy_stream_has_no_comments():
    """The timer runs on, but only silence counts."""
    setup = Setup()
    task = setup.event_stream(interval=0.3)
    end = time.monotonic() + 0.7
    while time.monotonic() < end:
        setup.push("x")
        await setup.client.has_written()
        await asyncio.sleep(0.01)
    setup.push("x", "stop")
    await finished(task)

    assert KEEP_ALIVE not in setup.client.body


@pytest.mark.anyio
async def test_whole_answer():
    setup = Setup()
    task = setup.whole_answer()
    setup.push("one")
    await asyncio.sleep(0)
    setup.push(" two", "stop")
    await finished(task)

    start, body = setup.client.sent
    headers = dict(start["headers"])
    assert headers[b"content-length"] == b"%d" % len(body["body"])
    answer = json.loads(body["body"])
    assert answer["choices"][0]["message"]["content"] == "one two"
    assert answer["usage"]["completion_tokens"] == 2
    assert setup.counted.successes["stop"] == 1


@pytest.mark.anyio
async def test_answers_that_need_no_engine():
    stream = FinishedDeltas(["a", "b"])

    outputs = [output async for delta in stream for output in delta]
    stream.close()

    assert [(output.request_id, output.finish_reason) for output in outputs] == [
        ("a", "length"),
        ("b", "length"),
    ]
    assert not stream.closed


def events(raw: bytes) -> list[dict[str, Any]]:
    return [json.loads(item.removeprefix("data: ")) for item in raw.decode().split("\n\n")[:-1]]


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5), st.booleans(), st.booleans())
def test_frames_are_json_whatever_the_text(texts, chat, usage):
    """Quotes, newlines, control characters: one event stays one line, and the text comes back."""
    kind = ChatWriter if chat else CompletionWriter
    writer: AnswerWriter = kind(HEAD, include_usage=usage)
    assembler = Assembler(["r"], [1])
    raw = b"".join(writer.frames(assembler.push([RequestOutput("r", [1], text)])) for text in texts)
    raw += writer.frames(assembler.push([RequestOutput("r", [1], "", "stop")]))

    chunks = events(raw)
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    pieces = [c["delta"].get("content", "") if chat else c["text"] for c in choices]
    assert "".join(pieces) == "".join(texts)
    assert all(chunk["id"] == HEAD.id and chunk["model"] == HEAD.model for chunk in chunks)
    assert [chunk.get("usage") is not None for chunk in chunks].count(True) == int(usage)
    assert all(("usage" in chunk) == usage for chunk in chunks)
    whole = json.loads(writer.whole(assembler.result()))["choices"][0]
    assert (whole["message"]["content"] if chat else whole["text"]) == "".join(texts)


@pytest.mark.anyio
async def test_a_keep_alive_leaves_its_task_uncancelled():
    """A wait is interrupted by a cancellation of our own. It must not count afterwards: neither for
    those who ask whether the task is being cancelled, nor against a real cancellation."""
    setup = Setup()
    task = setup.event_stream(interval=0.01)
    while KEEP_ALIVE not in setup.client.body:
        await setup.client.has_written()

    assert task.cancelling() == 0
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await finished(task)
    assert setup.aborted == ["r"]
