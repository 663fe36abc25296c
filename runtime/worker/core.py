"""The engine process without its socket: messages in, steps, messages out.

All waiting sequences share one queue, including preempted ones, so one place decides which request
is next.
"""

import itertools
import time
import traceback
from collections.abc import Callable, Sequence

from msgspec import Struct, structs

from runtime.config.engine import EngineConfig
from runtime.config.llama_cpp import LoRAAdapter
from runtime.engines.base import Engine, LoadsAdapters, Preparation, SequenceOutput
from runtime.errors import EngineFatal, EngineOverloaded, InvalidRequest, LockgateError
from runtime.messages.embedding import EmbeddingRequest
from runtime.messages.engine import EngineStats, EngineUsage
from runtime.messages.request import PRIORITY_STEP, Request
from runtime.messages.sizes import check_sizes
from runtime.messages.wire import (
    AdapterAnswer,
    FromEngine,
    LoadAdapter,
    Loosened,
    RequestFailed,
    StepOutput,
)
from runtime.tokenizers.tokenizer import Tokenizer
from runtime.worker.embedding_jobs import EmbeddingJobs
from runtime.worker.output import OutputProcessor
from runtime.worker.preparing import PreparingRequests
from runtime.worker.waiting_queue import WaitingQueue

MIN_EMBEDDING_SHARE = 0.3
"""Minimum time for embeddings, as a share of the step's time, so that they always progress."""

UNDISTURBED_STEPS = 4.0
"""While no sequence runs, one embedding step may take this many times `max_step_ms`. The engine
reads new messages only between steps."""


class _Running(Struct, frozen=True):
    """A request that runs in the engine. `since` is its admission time (monotonic clock)."""

    request: Request
    since: float


class EngineCore:
    """Waiting queue, engine and output processor, advanced one step at a time.

    A request is in exactly one of three places: it is being prepared, waits in the queue, or is in
    the engine. Messages to the gateway collect in an outbox until `take_messages`. Before the
    engine starts on a request, `record` is called with the ids of all requests that it works on.
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
        self._max_step_seconds = config.max_step_ms / 1000
        self._waiting: WaitingQueue[Request] = WaitingQueue(
            engine.limits.max_num_waiting, config.priority_ageing
        )
        self._embeddings = EmbeddingJobs(
            engine.embedder,
            max_num_jobs=engine.limits.max_num_seqs,
            max_num_waiting=engine.limits.max_num_waiting,
            priority_ageing=config.priority_ageing,
        )
        self._preparing = PreparingRequests()
        self._running: dict[str, _Running] = {}
        self._output = OutputProcessor(tokenizer)
        self._outbox: list[FromEngine] = []
        self._num_resumed = 0

    @property
    def has_work(self) -> bool:
        """Whether there is something to do now."""
        generates = len(self._waiting) or self._running or self._preparing.has_ready
        return bool(generates or self._embeddings.has_work)

    @property
    def is_preparing(self) -> bool:
        """Whether requests are being prepared, so that work will come without another message."""
        return len(self._preparing) > 0

    def submit(self, request: Request) -> None:
        """Queue a request, at once or after its preparation, or answer it with a refusal."""
        num_free = self._engine.limits.max_num_seqs - self._engine.num_running
        try:
            self._waiting.check_room(num_free - len(self._preparing))
        except EngineOverloaded as error:
            self._outbox.append(_refusal(request.request_id, error))
            return
        try:
            check_sizes(request)
            if request.sampling.structured_output is not None:
                self._note(request.request_id)
            preparation = self._engine.prepare(request)
        except EngineFatal:
            raise
        except Exception as error:
            self._refuse(request.request_id, error)
            return
        if preparation is None:
            self._waiting.admit(request)
        else:
            self._preparing.add(request, preparation)

    def embed(self, request: EmbeddingRequest) -> None:
        """Queue an embedding request, or answer it with a refusal."""
        try:
            self._embeddings.check_room()
            self._note(request.request_id)  # the first request sets up the embedder
            self._embeddings.submit(request)
        except EngineFatal:
            raise
        except Exception as error:
            self._embeddings.abort(request.request_id)
            self._outbox.append(_refusal(request.request_id, error))

    def abort(self, request_id: str) -> None:
        """Free what the request holds, before the next step. Unknown ids are ignored."""
        self._embeddings.abort(request_id)
        self._output.remove(request_id)
        self._preparing.remove(request_id)
        self._waiting.remove(request_id)
        self._running.pop(request_id, None)
        self._engine.abort(request_id)

    def load_adapter(self, message: LoadAdapter) -> None:
        """Load a LoRA adapter, and answer how that went."""
        adapter = LoRAAdapter(path=message.path, scale=message.scale)
        try:
            if not isinstance(self._engine, LoadsAdapters):
                raise InvalidRequest("This engine loads no adapters while it serves.", param=None)
            self._engine.load_adapter(message.name, adapter)
        except LockgateError as error:
            self._outbox.append(AdapterAnswer(message.name, str(error)))
            return
        self._outbox.append(AdapterAnswer(message.name))

    def unload_adapter(self, name: str) -> None:
        """Free a LoRA adapter that no request needs."""
        if isinstance(self._engine, LoadsAdapters):
            self._engine.unload_adapter(name)

    def step(self) -> None:
        """Admit what fits, compute one batch, turn it into text."""
        started = time.perf_counter()  # Windows' other clock goes on in steps of 15.6 ms
        self._queue_prepared()
        now = time.monotonic()
        self._refuse_expired(now)
        self._admit(now)
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
        self._embed(time.perf_counter() - started)
        stats = self._stats(time.perf_counter() - started)
        self._outbox.append(StepOutput(processed.outputs, stats, self._preparing.take_seconds()))

    def _embed(self, step_seconds: float) -> None:
        """Compute embeddings without slowing the running sequences too much. Embeddings may at
        most double the step's time, within `max_step_ms`; they always get MIN_EMBEDDING_SHARE."""
        now = time.monotonic()
        for request_id in self._embeddings.admit(now):
            self._note(request_id)
        seconds = UNDISTURBED_STEPS * self._max_step_seconds
        if self._engine.num_running:
            spare = min(self._max_step_seconds - step_seconds, step_seconds)
            seconds = max(spare, MIN_EMBEDDING_SHARE * step_seconds)
        self._outbox += self._embeddings.step(seconds)

    def heartbeat(self) -> None:
        """Emit an empty step output, which shows that an idle process is alive."""
        self._outbox.append(StepOutput([], self._stats(0.0)))

    def take_messages(self) -> list[FromEngine]:
        """Hand over the messages that have collected since the last call."""
        messages, self._outbox = self._outbox, []
        return messages

    def _queue_prepared(self) -> None:
        for request, preparation in self._preparing.take_ready():
            error = preparation.exception()
            if error is not None:
                self._refuse(request.request_id, error)
                continue
            prepared: Preparation = preparation.result()
            if prepared.left_out:
                self._outbox.append(Loosened(request.request_id, list(prepared.left_out)))
            self._waiting.admit(request)

    def _refuse_expired(self, now: float) -> None:
        for request in [*self._waiting.take_expired(now), *self._preparing.take_expired(now)]:
            self._engine.abort(request.request_id)  # also frees its preparation
            self._outbox.append(_expired(request, now))
        for waiting in self._embeddings.take_expired(now):
            self._outbox.append(_expired(waiting, now))

    def _admit(self, now: float) -> None:
        """Start what fits. While sequences run, starting takes no longer than a step may; what is
        left starts in the next steps."""
        started = time.perf_counter()
        while (request := self._waiting.peek(now)) is not None:
            if self._running and time.perf_counter() - started > self._max_step_seconds:
                return
            if not self._engine.can_add(request) and not self._make_way(request, now):
                return
            self._waiting.take(request)  # a request preempted for it may be first now
            self._start(request, now)

    def _start(self, request: Request, now: float) -> None:
        """Give a request to the engine. Whatever goes wrong ends this request alone."""
        self._note(request.request_id)
        is_resumed = self._output.has(request.request_id)  # a preempted one keeps its text state
        try:
            if not is_resumed:
                self._output.add(request, max(now - request.arrival_time, 0.0))
            self._engine.add(request)
        except EngineFatal:
            raise
        except Exception as error:
            self._refuse(request.request_id, error)
            return
        self._running[request.request_id] = _Running(request, now)
        self._num_resumed += is_resumed
        if not request.output_token_ids:
            self._waiting.charge(request.tenant, len(request.prompt_token_ids))

    def _refuse(self, request_id: str, error: BaseException) -> None:
        """Answer a request that does not run with an error, and free what it holds."""
        self._output.remove(request_id)
        self._engine.abort(request_id)
        self._outbox.append(_refusal(request_id, error))

    def _note(self, request_id: str) -> None:
        if self._record is not None:
            others = self._preparing.request_ids, self._running, self._embeddings.request_ids
            self._record([*itertools.chain.from_iterable(others), request_id])

    def _make_way(self, request: Request, now: float) -> bool:
        """Preempt requests of lower classes for a request that has waited `preempt_after` seconds.
        Returns whether it fits now. A request runs at least that long before it is preempted, so
        that no request is only moved back and forth."""
        if now - request.arrival_time < self._preempt_after:
            return False
        for running in self._lower_classes(request.priority, now):
            self._engine.preempt(running.request.request_id)
            self._take_back_preempted()
            if self._engine.can_add(request):
                return True
        return False

    def _lower_classes(self, priority: int, now: float) -> list[_Running]:
        """Requests to preempt, in order: the lowest class first, in it the latest arrival first."""
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
        num_resumed, self._num_resumed = self._num_resumed, 0
        return EngineStats(
            num_running=self._engine.num_running + self._embeddings.num_running,
            num_waiting=len(self._waiting) + self._embeddings.num_waiting,
            step_seconds=step_seconds,
            num_preparing=len(self._preparing),
            num_waiting_preempted=self._waiting.num_pushed_back,
            num_resumed=num_resumed,
            usage=self._take_usage(),
        )

    def _take_usage(self) -> EngineUsage:
        usage = self._engine.take_usage()
        if num_embedded := self._embeddings.take_num_tokens():
            num_prompt_tokens = usage.num_prompt_tokens + num_embedded
            usage = structs.replace(usage, num_prompt_tokens=num_prompt_tokens)
        return usage


def _rank(request: Request) -> tuple[int, float]:
    return request.priority, request.arrival_time


def _expired(request: Request | EmbeddingRequest, now: float) -> RequestFailed:
    waited = max(now - request.arrival_time, 0.0)
    message = (
        f"The request waited {waited:.0f} seconds for its turn, until its deadline."
        " Try again later."
    )
    return RequestFailed(request.request_id, "expired", message)


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
