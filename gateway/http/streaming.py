"""Responses that live as long as the engine works on them.

Litestar's handlers return one of the two classes here; both are ASGI applications. Each reads one
`AnswerRun` and closes it however the response ends; nothing is awaited then, because a cancelled
task could not wait.
"""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, Self

import structlog
from litestar.types import ASGIApp, Receive, Scope, Send

from gateway.admission.accounts import counted
from gateway.admission.middleware import reserve_tokens
from gateway.bounds.body_memory import shrink
from gateway.errors import ErrorBody, to_reply
from gateway.generation.job import Job
from gateway.generation.prepare import unused_params
from gateway.generation.run import AnswerRun, prepare_run
from gateway.generation.writer import KEEP_ALIVE, AnswerWriter
from gateway.http.body import while_connected, work_for
from gateway.http.context import AnyRequest, Context
from gateway.http.deadlines import at_deadline
from gateway.http.json_response import JSONBytes
from gateway.http.loading.stream import STREAM_HEADERS, LoadingStream
from gateway.http.loading.wait import is_loaded, until_loaded
from gateway.models.served_model import LONG_TEXT, ServedModel
from gateway.observability.reports.dropped_items import report_dropped
from gateway.observability.reports.ignored_parameters import note_ignored
from gateway.observability.reports.loosened_schemas import report_left_out
from gateway.observability.request_record import RequestRecord
from runtime.errors import LockgateError

log = structlog.get_logger(__name__)


class Closable(Protocol):
    """The engine's work, which is closed when no client waits for it."""

    def close(self) -> None: ...

    def expire(self, error: LockgateError) -> None: ...


NewWriter = Callable[[AnswerRun], AnswerWriter]
"""Makes the writer of an answer that is ready to be submitted."""


Complete = Callable[[Job], Coroutine[Any, Any, Job]]
"""Makes of a job what it is to be, with the help of its model."""


async def respond(
    context: Context,
    request: AnyRequest,
    job: Job,
    model: ServedModel,
    new_writer: NewWriter,
    complete: Complete | None = None,
) -> ASGIApp:
    """The response to a job, as a stream or in one piece. A model that is not loaded is waited for,
    and `complete` then makes the job what it is to be.

    Raises the errors that can be known before the engine has the job: no room, no memory, a limit
    of the key, a prompt that the model cannot have.
    """
    answer = _answer(context, request, job, model, new_writer, complete)
    if job.is_streamed and (complete is not None or not is_loaded(request)):
        return LoadingStream(answer, context.settings.server.keep_alive_interval, last_words)
    return await answer


async def _answer(
    context: Context,
    request: AnyRequest,
    job: Job,
    model: ServedModel,
    new_writer: NewWriter,
    complete: Complete | None,
) -> ASGIApp:
    await until_loaded(request, job.scheduling.deadline or math.inf)
    if job.needs_engine:
        context.gpus.check_memory()
        model.engine.check_room(job.num_requests, job.count_param)
    if complete is not None:
        job = await while_connected(request, complete(job))
    run = await _prepared(context, request, job, model)
    shrink(request.scope)
    note_ignored(request.scope, {**job.ignored, **unused_params(job, model)})
    report_dropped(run.num_dropped, RequestRecord.of(request.scope))
    reserve_tokens(request.scope, run)
    counted(request.scope, context.ledger, run.record)
    writer = new_writer(run)
    if not job.is_streamed:
        return WholeAnswer(run, writer)
    return EventStream(run, writer, context.settings.server.keep_alive_interval)


async def _prepared(
    context: Context, request: AnyRequest, job: Job, model: ServedModel
) -> AnswerRun:
    """The answer, ready to be submitted. A large request is given up if its client leaves."""
    request_record = RequestRecord.of(request.scope)
    work = prepare_run(
        job,
        model,
        context.metrics.of(request_record.model_name),
        work_for(request),
    )
    if request_record.body_bytes <= LONG_TEXT:
        return await work
    return await while_connected(request, work)


class WholeAnswer:
    """The answer in one piece: the folded stream."""

    def __init__(self, run: AnswerRun, writer: AnswerWriter) -> None:
        self._run = run
        self._writer = writer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_record = RequestRecord.of(scope)
        with self._run as run, until_over(receive, run, request_record.deadline):
            request_record.answer = run.record
            async for events in run:
                self._writer.take(events)
        report_left_out(run.left_out, request_record)
        if run.is_finished:  # otherwise the client has left
            await JSONBytes(self._writer.whole(run.result()))(scope, receive, send)


class EventStream:
    """The answer as server-sent events.

    The headers are sent with the first delta, so that an earlier failure is a plain HTTP error. All
    events that have queued up while the client or the loop was busy go out in one write; a write
    never waits for more events. After `keep_alive_interval` seconds of silence a comment keeps the
    connection open.
    """

    def __init__(self, run: AnswerRun, writer: AnswerWriter, keep_alive_interval: float) -> None:
        self._run = run
        self._writer = writer
        self._interval = keep_alive_interval

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_record = RequestRecord.of(scope)
        with self._run as run, until_over(receive, run, request_record.deadline):
            request_record.answer = run.record
            try:
                await self._write_all(send, request_record)
            except Exception as error:
                if not request_record.status:
                    raise
                run.fail()
                body = self._writer.failed(last_words(error, request_record))
                await send({"type": "http.response.body", "body": body, "more_body": False})

    async def _write_all(self, send: Send, request_record: RequestRecord) -> None:
        run, frames = self._run, self._writer.frames
        with _Silence(self._interval) as silence:
            while not run.is_finished:
                try:
                    silence.begin()
                    events = await run.__anext__()
                except StopAsyncIteration:
                    return  # the client has left
                except asyncio.CancelledError:
                    if not silence.has_expired():
                        raise
                    body = KEEP_ALIVE
                else:
                    silence.end()
                    body = frames(events)
                    if run.is_finished:
                        body += self._writer.end
                if not request_record.status:
                    report_left_out(run.left_out, request_record)
                    await send(
                        {"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS}
                    )
                if body:
                    more = not run.is_finished
                    await send({"type": "http.response.body", "body": body, "more_body": more})


@contextmanager
def until_over(receive: Receive, stream: Closable, deadline: float = math.inf) -> Iterator[None]:
    """Closes the stream at the end of the block, or as soon as the client leaves; closing wakes the
    stream's reader. The server cancels neither kind of response when the client leaves. At the
    deadline, on the monotonic clock, the reader gets a RequestTimeout."""
    watcher = asyncio.create_task(_close_on_disconnect(receive, stream))
    with at_deadline(deadline, stream.expire):
        try:
            yield
        finally:
            watcher.cancel()
            stream.close()


async def _close_on_disconnect(receive: Receive, stream: Closable) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    stream.close()


def last_words(error: Exception, request_record: RequestRecord) -> ErrorBody:
    """The error that the client receives in mid-stream."""
    reply = to_reply(error, request_record.request_id)
    request_record.error_code = reply.body.code
    unexpected = None if isinstance(error, LockgateError) else error
    log.error(
        "stream_failed",
        request_id=request_record.request_id,
        error=reply.body.message,
        exc_info=unexpected,
    )
    return reply.body


class _Silence:
    """Interrupts a wait that has lasted `interval` seconds, by cancelling the task that waits.

    One timer serves the whole stream: a delta costs it an assignment, where a timeout around each
    wait would cost microseconds.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._waiting_since = 0.0
        self._expired = False

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None, "a response runs in a task"
        self._task = task
        self._timer = self._loop.call_later(self._interval, self._tick)
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def begin(self) -> None:
        self._waiting_since = time.monotonic()

    def end(self) -> None:
        self._waiting_since = 0.0

    def has_expired(self) -> bool:
        """Whether the cancellation came from this timer alone. Call it once: it ends the wait."""
        self.end()
        expired, self._expired = self._expired, False
        return expired and self._task.uncancel() == 0

    def _tick(self) -> None:
        remaining = self._interval
        if self._waiting_since:
            remaining = self._waiting_since + self._interval - time.monotonic()
            if remaining <= 0:
                self._expired = True
                self._task.cancel()
                remaining = self._interval
        self._timer = self._loop.call_later(remaining, self._tick)
