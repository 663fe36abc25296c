"""One answer while it is made: from a job to its events. Nothing here knows HTTP."""

from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

from gateway.bounds.work_pool import Work, at_once
from gateway.chat.conversation import Conversation
from gateway.generation.assembler import Assembler
from gateway.generation.events import Answer, Event, Usage
from gateway.generation.job import Job
from gateway.generation.parsers import find_parsing, find_tool_constraint
from gateway.generation.prepare import prepare_prompts
from gateway.generation.requests import check_sampling_tokens, engine_requests
from gateway.generation.timeline import Timeline
from gateway.models.served_model import ServedModel
from gateway.observability.answer_record import AnswerRecord
from gateway.observability.metrics.model import ModelMetrics
from runtime.errors import InvalidRequest, LockgateError
from runtime.messages.request import Request, RequestOutput
from runtime.messages.structured_output import LeftOut


class Deltas(Protocol):
    """The part of `runtime.client.token_stream.TokenStream` that its reader uses."""

    @property
    def closed(self) -> bool: ...

    @property
    def left_out(self) -> Sequence[LeftOut]: ...

    @property
    def unread(self) -> Sequence[RequestOutput]: ...

    def __aiter__(self) -> AsyncIterator[list[RequestOutput]]: ...

    async def __anext__(self) -> list[RequestOutput]: ...

    def abort(self, request_id: str) -> None: ...

    def close(self) -> None: ...

    def expire(self, error: LockgateError) -> None: ...


class FinishedDeltas:
    """Deltas of requests that ask for no tokens: the engine has nothing to do."""

    def __init__(self, request_ids: Sequence[str]) -> None:
        self._outputs = [RequestOutput(request_id, [], "", "length") for request_id in request_ids]
        self.closed = False
        self.left_out: Sequence[LeftOut] = ()
        self.unread: Sequence[RequestOutput] = ()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[RequestOutput]:
        outputs, self._outputs = self._outputs, []
        if not outputs:
            raise StopAsyncIteration
        return outputs

    def abort(self, request_id: str) -> None:
        pass  # it has ended

    def close(self) -> None:
        pass  # nothing is held

    def expire(self, error: LockgateError) -> None:
        pass  # the answer is complete already


class AnswerRun:
    """The events of one answer, as lists that end when the answer is complete.

    Enter the `with` block to submit the engine's requests, and iterate in it. Leaving the block
    frees the engine's sequences before its next step, and records the answer as aborted, or as
    failed if an error leaves the block, unless the answer was complete. `close` may be called at
    any time, and again: the iteration then ends, with `is_finished` false.

    The job's prompt is not kept: its text may be large, and the answer may take long.

    `is_finished` says whether every choice has ended by itself. `record` has the times and the
    counts of the answer. `num_dropped` items of a conversation are not in its prompt.
    `token_limits` are the limits of its choices; None for the rest of the
    context.
    """

    def __init__(
        self,
        job: Job,
        requests: Sequence[Request],
        assembler: Assembler,
        submit: Callable[[Sequence[Request]], Deltas],
        metrics: ModelMetrics,
        num_dropped: int = 0,
    ) -> None:
        self.num_dropped = num_dropped
        self._is_open = job.limit.num_tokens is None and job.limit.default is None
        self._num_choices, self._num_candidates = job.num_choices, job.num_candidates
        self._param_names = job.param_names
        self._requests = requests
        self._assembler = assembler
        self._submit = submit
        self._timeline = Timeline(metrics, job.scheduling.arrival_time, assembler)
        self._deltas: Deltas | None = None
        self.is_finished = False

    @property
    def record(self) -> AnswerRecord:
        return self._timeline.record

    @property
    def token_limits(self) -> list[int | None]:
        return [
            None if self._is_open else request.sampling.max_tokens for request in self._requests
        ]

    @property
    def left_out(self) -> Sequence[LeftOut]:
        """The keywords of the job's schemas that are not enforced, known with the first events."""
        return () if self._deltas is None else self._deltas.left_out

    @property
    def prompt_token_ids(self) -> list[list[int]]:
        """The prompt of each choice that the client gets."""
        prompts = self._requests[:: self._num_candidates]
        return [each.prompt_token_ids for each in prompts for _ in range(self._num_choices)]

    def usage_so_far(self) -> Usage:
        """Tokens of the whole answer so far."""
        return self._assembler.usage_so_far()

    def result(self) -> Answer:
        """The whole answer. Every choice must have ended."""
        return self._assembler.result()

    def __enter__(self) -> Self:
        """Raises EngineOverloaded and EngineUnavailable."""
        self._deltas = self._submit(self._requests)
        return self

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        self.close()
        if not isinstance(error, Exception):
            self._count_unread()
        self._timeline.leave(error)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Event]:
        """Raises InvalidRequest, with the names of the job's API, for what the engine refuses."""
        assert self._deltas is not None, "the events are read inside the `with` block"
        if self.is_finished:
            raise StopAsyncIteration
        try:
            outputs = await self._deltas.__anext__()
        except InvalidRequest as error:
            error.rename(self._param_names)
            raise
        events = self._assembler.push(outputs)
        for request_id in self._assembler.take_looping():
            self._deltas.abort(request_id)
        self._timeline.delta(len(outputs))
        if self._assembler.is_finished:
            self.is_finished = True
            self._timeline.finish()
        return events

    def _count_unread(self) -> None:
        """What was generated counts, also if nobody has read it."""
        if self._deltas is not None and (unread := self._deltas.unread):
            self._assembler.push(unread)
            self._timeline.delta(len(unread))

    def fail(self) -> None:
        """Records that an error ended the answer, for a reader that handles the error itself."""
        self._timeline.fail()

    def close(self) -> None:
        if self._deltas is not None:
            self._deltas.close()

    def expire(self, error: LockgateError) -> None:
        """Ends the answer with this error, which the reader gets."""
        if self._deltas is not None:
            self._deltas.expire(error)


async def prepare_run(
    job: Job, model: ServedModel, metrics: ModelMetrics, work: Work = at_once
) -> AnswerRun:
    """The answer to a job, ready to be submitted; what takes long is done by `work`. Raises
    InvalidRequest for what this model cannot do, and EngineUnavailable while it is not loaded."""
    check_sampling_tokens(job.sampling, model.tokenizer.vocab_size)
    prepared = await prepare_prompts(job, model, work)
    use = job.prompt.tools if isinstance(job.prompt, Conversation) else None
    calls = find_tool_constraint(use, model, job.sampling.structured_output)
    requests = engine_requests(job, prepared, model.max_model_len, calls)
    assembler = Assembler(
        [request.request_id for request in requests],
        [len(prompt) for prompt in prepared.token_ids],
        prepared.echoes,
        find_parsing(calls, prepared.thinking, shows_reasoning=_shows_reasoning(job)),
        reports_tokens=job.reports_tokens,
    )
    submit = model.engine.submit if job.needs_engine else _finished
    return AnswerRun(job, requests, assembler, submit, metrics, prepared.num_dropped)


def _shows_reasoning(job: Job) -> bool:
    return not isinstance(job.prompt, Conversation) or job.prompt.reasoning.is_shown


def _finished(requests: Sequence[Request]) -> Deltas:
    return FinishedDeltas([request.request_id for request in requests])
