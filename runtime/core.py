"""The engine process without its socket: messages in, steps, messages out.

Everything that is waiting stands in one queue, requests that had to give way included, so there is
one place that decides who is next.
"""

import time
import traceback
from collections.abc import Callable, Sequence

from msgspec import Struct

from runtime.config import EngineConfig
from runtime.engines.base import Engine, SequenceOutput
from runtime.errors import EngineOverloaded, InvalidRequest, LockgateError
from runtime.messages import EngineStats, FromEngine, RequestFailed, StepOutput
from runtime.output import OutputProcessor
from runtime.preparing import PreparingRequests
from runtime.request import PRIORITY_STEP, Request
from runtime.tokenizer import Tokenizer
from runtime.waiting_queue import WaitingQueue


class _Running(Struct, frozen=True):
    """A request that the engine works on, and when it was let in (monotonic clock)."""

    request: Request
    since: float


class EngineCore:
    """Waiting queue, engine and output processor, advanced one step at a time.

    A request is in exactly one of three places: it is being prepared, waits in the queue, or is in
    the engine. What has to be told to the gateway collects in an outbox until `take_messages`.
    Before the engine takes a request up, `record` is told the ids of all that it works on.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        config: EngineConfig,
        record: Callable[[Sequence[str]], None] | None = None,
    ) -> None:
        self._engine = engine
        self._record = record
        self._preempt_after = config.preempt_after
        self._waiting = WaitingQueue(engine.limits.max_num_waiting, config.priority_ageing)
        self._preparing = PreparingRequests()
        self._running: dict[str, _Running] = {}
        self._output = OutputProcessor(tokenizer)
        self._outbox: list[FromEngine] = []
        self._num_resumed = 0

    @property
    def has_work(self) -> bool:
        """Whether there is something to do now."""
        return bool(len(self._waiting) or self._running or self._preparing.has_ready)

    @property
    def is_preparing(self) -> bool:
        """Whether there will be something to do without another message."""
        return len(self._preparing) > 0

    def submit(self, request: Request) -> None:
        """Queue a request, at once or when it has been prepared, or answer it with a refusal."""
        num_free = self._engine.limits.max_num_seqs - self._engine.num_running
        try:
            self._waiting.check_room(num_free - len(self._preparing))
            if request.sampling.structured_output is not None:
                self._note(request)
            preparation = self._engine.prepare(request)
        except (EngineOverloaded, InvalidRequest) as error:
            self._outbox.append(_refusal(request.request_id, error))
            return
        if preparation is None:
            self._waiting.admit(request)
        else:
            self._preparing.add(request, preparation)

    def abort(self, request_id: str) -> None:
        """Free what the request holds, before the next step. Unknown ids are ignored."""
        self._output.remove(request_id)
        self._preparing.remove(request_id)
        self._waiting.remove(request_id)
        self._running.pop(request_id, None)
        self._engine.abort(request_id)

    def step(self) -> None:
        """Admit what fits, compute one batch, turn it into text."""
        started = time.monotonic()
        self._queue_prepared()
        self._refuse_expired(started)
        self._admit(started)
        outputs = self._engine.step()
        self._take_back_preempted()
        self._charge(outputs)
        processed = self._output.process(outputs)
        for request_id in processed.stopped:
            self._engine.abort(request_id)
        for output in processed.outputs:
            if output.finish_reason is not None:
                del self._running[output.request_id]
        self._answer_failed()
        stats = self._stats(time.monotonic() - started)
        self._outbox.append(StepOutput(processed.outputs, stats, self._preparing.take_seconds()))

    def heartbeat(self) -> None:
        """Say that the process lives though there is nothing to do."""
        self._outbox.append(StepOutput([], self._stats(0.0)))

    def take_messages(self) -> list[FromEngine]:
        """Hand over what has collected since the last call."""
        messages, self._outbox = self._outbox, []
        return messages

    def _queue_prepared(self) -> None:
        for request, error in self._preparing.take_ready():
            if error is None:
                self._waiting.admit(request)
                continue
            self._engine.abort(request.request_id)
            self._outbox.append(_refusal(request.request_id, error))

    def _refuse_expired(self, now: float) -> None:
        for request in self._waiting.take_expired(now):
            self._engine.abort(request.request_id)  # and with it what was prepared
            message = (
                f"The request waited {now - request.arrival_time:.0f} seconds for its turn, until"
                " its deadline. Try again later."
            )
            self._outbox.append(RequestFailed(request.request_id, "expired", message))

    def _admit(self, now: float) -> None:
        while (request := self._waiting.peek(now)) is not None:
            if not self._engine.can_add(request) and not self._make_way(request, now):
                return
            self._waiting.take(request)  # who gave way to it may stand before it now
            self._start(request, now)

    def _start(self, request: Request, now: float) -> None:
        self._note(request)
        try:
            self._engine.add(request)
        except InvalidRequest as error:
            self._engine.abort(request.request_id)
            self._outbox.append(_refusal(request.request_id, error))
            return
        self._running[request.request_id] = _Running(request, now)
        if self._output.has(request.request_id):  # a preempted one has left its text here
            self._num_resumed += 1
        else:
            self._output.add(request, now)
        if not request.output_token_ids:
            self._waiting.charge(request.tenant, len(request.prompt_token_ids))

    def _note(self, request: Request) -> None:
        if self._record is not None:
            self._record([*self._preparing.request_ids, *self._running, request.request_id])

    def _make_way(self, request: Request, now: float) -> bool:
        """Whether lower classes could give way to a request that has waited long enough. Each has
        its turn for as long first, so that nobody is only sent back and forth."""
        if now - request.arrival_time < self._preempt_after:
            return False
        for running in self._lower_classes(request.priority, now):
            self._engine.preempt(running.request.request_id)
            self._take_back_preempted()
            if self._engine.can_add(request):
                return True
        return False

    def _lower_classes(self, priority: int, now: float) -> list[_Running]:
        """Who has to give way first: the lowest class, of it the latest arrival."""
        lower = [
            running
            for running in self._running.values()
            if running.request.priority - priority >= PRIORITY_STEP
            and now - running.since >= self._preempt_after
        ]
        return sorted(lower, key=lambda running: _rank(running.request), reverse=True)

    def _take_back_preempted(self) -> None:
        for request in self._engine.take_preempted():
            del self._running[request.request_id]
            self._waiting.push_back(request)

    def _answer_failed(self) -> None:
        for failed in self._engine.take_failed():
            self._output.remove(failed.request_id)
            del self._running[failed.request_id]
            self._outbox.append(_refusal(failed.request_id, failed.error))

    def _charge(self, outputs: Sequence[SequenceOutput]) -> None:
        for output in outputs:
            tenant = self._running[output.request_id].request.tenant
            self._waiting.charge(tenant, len(output.token_ids))

    def _stats(self, step_seconds: float) -> EngineStats:
        usage = self._engine.take_usage()
        num_resumed, self._num_resumed = self._num_resumed, 0
        return EngineStats(
            num_running=self._engine.num_running,
            num_waiting=len(self._waiting),
            num_prompt_tokens=usage.num_prompt_tokens,
            num_generation_tokens=usage.num_generation_tokens,
            num_preempted=usage.num_preempted,
            kv_cache_usage=usage.kv_cache_usage,
            step_seconds=step_seconds,
            num_cached_tokens=usage.num_cached_tokens,
            prefix_cache_usage=usage.prefix_cache_usage,
            num_preparing=len(self._preparing),
            num_waiting_preempted=self._waiting.num_pushed_back,
            num_resumed=num_resumed,
            num_draft_tokens=usage.num_draft_tokens,
            num_accepted_tokens=usage.num_accepted_tokens,
        )


def _rank(request: Request) -> tuple[int, float]:
    return request.priority, request.arrival_time


def _refusal(request_id: str, error: BaseException) -> RequestFailed:
    match error:
        case EngineOverloaded():
            retry_after = error.retry_after
            return RequestFailed(request_id, "overloaded", str(error), retry_after=retry_after)
        case InvalidRequest():
            return RequestFailed(request_id, "invalid", str(error), error.param, error.code)
        case LockgateError():
            return RequestFailed(request_id, "internal", str(error))
    traceback.print_exception(error)
    return RequestFailed(request_id, "internal", f"{type(error).__name__}: {error}")
