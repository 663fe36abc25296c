"""The gateway's side of the engine: submit requests, read their tokens, know the engine's state."""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from itertools import accumulate

import structlog

from runtime.client.embedding_stream import EmbeddingStream
from runtime.client.handle import EngineState
from runtime.client.in_flight import EmbeddingInFlight, InFlight
from runtime.client.load_state import LoadState
from runtime.client.service_rate import ServiceRate
from runtime.client.suspects import PROOF_TOKENS, Suspects
from runtime.client.token_stream import TokenStream
from runtime.errors import (
    DeadlineExceeded,
    EngineCrashed,
    EngineError,
    EngineOverloaded,
    EngineUnavailable,
    InvalidRequest,
    LockgateError,
)
from runtime.messages.embedding import EmbeddingRequest
from runtime.messages.engine import Capability, EngineInfo, EngineLimits, EngineStats
from runtime.messages.request import Request, RequestOutput
from runtime.messages.sizes import check_sizes
from runtime.messages.structured_output import LeftOut
from runtime.messages.wire import (
    Abort,
    Embedded,
    FromEngine,
    Loosened,
    Ready,
    RequestFailed,
    StepOutput,
    ToEngine,
)

log = structlog.get_logger(__name__)

UNAVAILABLE_RETRY_SECONDS = 10.0
"""`retry_after` for a failed engine, whose return time is not known."""


class EngineClient:
    """The `EngineHandle` of a process on this machine. It owns every request in flight.
    Single-threaded: it lives on one event loop.

    The supervisor reports when an engine is ready (`connected`), its messages (`receive`) and its
    end (`lost`). Requests in flight are submitted to the next engine. So are requests that arrive
    between two engines, unless their deadline passes first.
    While `Suspects` searches for a request that kills engines, requests not on trial wait here.
    `max_num_waiting_tokens` bounds the tokens of prompts without an answer yet; 0 means no bound.
    `num_restarts` counts lost engines that another engine replaces. `num_resumed` counts requests
    that were submitted to a next engine.
    """

    def __init__(self, max_num_waiting_tokens: int = 0) -> None:
        self.max_num_waiting_tokens = max_num_waiting_tokens
        self._num_waiting_tokens = 0
        self._in_flight: dict[str, InFlight | EmbeddingInFlight] = {}
        self._send: Callable[[ToEngine], None] | None = None
        self._rate = ServiceRate()
        self._suspects = Suspects()
        self.last_step_time = 0.0
        """When the engine last reported a step (monotonic clock); 0 before."""
        self.num_deaths = 0
        self.last_death_time = 0.0
        """When an engine process last died (monotonic clock); 0 when none has."""
        self.num_tokens = 0
        """Tokens that the running engine process has emitted."""
        self.state: EngineState = "starting"
        self.load: LoadState | None = None
        """What an engine that starts waits for; None when none does."""
        self._reason = "The engine is starting."
        self.limits: EngineLimits | None = None
        self.info: EngineInfo | None = None
        self.capabilities: frozenset[Capability] = frozenset()
        self.stats = EngineStats()
        self.num_restarts = 0
        self.num_resumed = 0
        self.on_state: Callable[[], None] = lambda: None
        """Called after each change of the state."""

    @property
    def state_reason(self) -> str:
        """Why no engine is ready, as sentences; empty when one is."""
        if self.load is None:
            return self._reason
        return f"{self._reason.rstrip('.')}. {self.load.sentence(time.monotonic())}"

    @property
    def num_in_flight(self) -> int:
        return len(self._in_flight)

    @property
    def is_searching(self) -> bool:
        """Whether a search for a request that kills engines is going on."""
        return self._suspects.is_searching

    def check_room(self, num_requests: int, param: str = "n") -> None:
        """Raises what `submit` would raise now for this many requests, except for their tokens.
        Before the prompts are rendered, a refusal costs almost nothing."""
        self._check_room(num_requests, self._limits(), param)

    def submit(self, requests: Sequence[Request]) -> TokenStream:
        """Hand requests to the engine; their deltas come out of one stream.

        While the engine restarts, requests wait here. Raises EngineUnavailable when no engine is
        ready or restarting, EngineOverloaded when the requests do not fit beside the requests in
        flight, and InvalidRequest when they exceed the capacity of an idle engine or the sizes that
        any engine takes.
        """
        self._check_room(len(requests), self._limits())
        for request in requests:
            check_sizes(request)
        self._check_tokens(sum(len(request.prompt_token_ids) for request in requests))
        stream = TokenStream([request.request_id for request in requests], self._abort)
        for request in requests:
            self._add(InFlight(request, stream))
        self._hand_over(requests)
        return stream

    def check_embeddings(self) -> EngineLimits:
        """Returns the engine's limits if it has embeddings and room for one request. Otherwise
        raises what `embed` would raise now."""
        limits = self._limits()
        if not limits.max_embedding_len:
            engine = self.info.engine if self.info else "engine"
            raise InvalidRequest(
                f"The engine `{engine}` has no embeddings. Use a server whose engine is llama_cpp.",
                param="model",
                code="unsupported_value",
            )
        self._check_capacity(1, limits)
        return limits

    def embed(self, request: EmbeddingRequest) -> EmbeddingStream:
        """Hand an embedding request to the engine. Raises what `submit` raises, and InvalidRequest
        when the engine has no embeddings."""
        self.check_embeddings()
        self._check_tokens(request.num_tokens)
        stream = EmbeddingStream(request.request_id, len(request.inputs), self._abort)
        self._add(EmbeddingInFlight(request, stream))
        self._hand_over([request])
        return stream

    def starts(self, load: LoadState) -> None:
        """An engine starts, and this is what it waits for."""
        self.load = load

    def connected(self, send: Callable[[ToEngine], None], ready: Ready) -> None:
        """An engine is ready: submit the requests in flight to it."""
        self._send = send
        self.limits = ready.limits
        self.info = ready.info
        self.capabilities = ready.capabilities
        self.num_restarts += self.state == "failed"  # `lost` did not count it
        self.state, self._reason, self.load = "ready", "", None
        self.num_tokens = 0
        self.last_step_time = time.monotonic()
        self.num_resumed += len(self._in_flight)
        self._go_on()
        self.on_state()

    def receive(self, message: FromEngine) -> None:
        """Deliver a message of the engine about requests or about itself."""
        match message:
            case StepOutput(outputs, stats):
                self.stats = stats
                self.last_step_time = time.monotonic()
                for output in outputs:
                    self._deliver(output)
            case Loosened(request_id, left_out):
                self._note_left_out(request_id, left_out)
            case Embedded(request_id, vectors):
                self._deliver_vectors(request_id, vectors)
            case RequestFailed():
                self._refused(message)

    def count_death(self, now: float) -> None:
        """Count the death of an engine process at time `now` (monotonic clock)."""
        self.num_deaths += 1
        self.last_death_time = now

    def lost(
        self,
        state: EngineState,
        reason: str,
        working_on: Collection[str] | None = (),
    ) -> None:
        """The engine is gone. Unless another one follows, everything in flight fails.

        `working_on` are the requests that may have killed it: None when they are not known, and
        empty when no request can be the cause.
        """
        self._send = None
        self.state, self._reason, self.load = state, reason, None
        self.stats = EngineStats()
        self.num_restarts += state == "restarting"
        if state in ("failed", "unloaded"):
            self._fail_waiting(reason)
            self._fail_all(EngineError(reason))
        else:
            self._find_guilty(working_on, reason)
        for in_flight in self._in_flight.values():
            in_flight.is_submitted = False
        self.on_state()

    def _find_guilty(self, working_on: Collection[str] | None, reason: str) -> None:
        submitted = [key for key, entry in self._in_flight.items() if entry.is_submitted]
        known = submitted if working_on is None else set(working_on)
        accused = [key for key in submitted if key in known]
        if not accused:
            self._suspects.interrupted()
            return
        newcomers = [key for key in accused if not self._in_flight[key].num_new_tokens]
        guilty = self._suspects.died(accused, newcomers)
        if guilty is not None:
            self._give_up(guilty, reason)

    def _give_up(self, request_id: str, reason: str) -> None:
        in_flight = self._in_flight[request_id]
        log.error("request_given_up", request_id=request_id, reason=reason)
        error = EngineCrashed(
            "The engine process died each time it worked on this request, the last time on this"
            f" one alone, so the request has been given up. {reason}"
        )
        for other in in_flight.stream.fail(error):
            self._forget(other)

    def _go_on(self) -> None:
        """Submit the next group of suspects, or all waiting requests when no search is going on."""
        suspects = self._suspects
        while suspects.is_searching and suspects.is_group_done:
            self._submit(suspects.next_group())
        if not suspects.is_searching:
            self._submit([key for key, entry in self._in_flight.items() if not entry.is_submitted])

    def _add(self, in_flight: InFlight | EmbeddingInFlight) -> None:
        request_id = in_flight.request.request_id
        assert request_id not in self._in_flight, "request id used twice: a bug"
        self._in_flight[request_id] = in_flight
        self._num_waiting_tokens += in_flight.waiting_tokens

    def _submit(self, request_ids: Sequence[str]) -> None:
        now = time.monotonic()  # the same for all, so that they stay in order
        for request_id in request_ids:
            in_flight = self._in_flight[request_id]
            in_flight.is_submitted, in_flight.num_new_tokens = True, 0
            if self._send is not None:
                self._send(in_flight.message(now))

    def _hand_over(self, requests: Sequence[Request | EmbeddingRequest]) -> None:
        if self._send is None or self._suspects.is_searching:
            self._wait(requests)
        else:
            self._submit_together([request.request_id for request in requests])
        self._rate.in_flight(len(self._in_flight))

    def _submit_together(self, request_ids: list[str]) -> None:
        """Sends all requests or none. If one fails, the others are aborted, since the caller never
        gets their stream."""
        try:
            self._submit(request_ids)
        except Exception:
            self._abort(request_ids)
            raise

    def _wait(self, requests: Sequence[Request | EmbeddingRequest]) -> None:
        """Watch the deadlines of requests until an engine takes them and does so itself."""
        now = time.monotonic()
        for request in requests:
            if request.deadline:
                asyncio.get_running_loop().call_later(request.deadline - now, self._expire, request)

    def _expire(self, request: Request | EmbeddingRequest) -> None:
        in_flight = self._in_flight.get(request.request_id)
        if in_flight is None or in_flight.is_submitted or in_flight.has_begun:
            return
        waited = max(time.monotonic() - request.arrival_time, 0.0)
        message = (
            f"The request waited {waited:.0f} seconds for an engine, until its deadline."
            " Try again later."
        )
        self._refused(RequestFailed(request.request_id, "expired", message))

    def _clear(self, request_id: str) -> None:
        """Clear a request of suspicion, and submit the next group if it was the last."""
        if self._suspects.is_searching:
            self._suspects.clear(request_id)
            if self._send is not None:
                self._go_on()

    def _deliver(self, output: RequestOutput) -> None:
        in_flight = self._in_flight.get(output.request_id)
        if not isinstance(in_flight, InFlight):
            return  # the request was aborted in the meantime
        if output.token_ids and not in_flight.output_token_ids:
            self._num_waiting_tokens -= in_flight.waiting_tokens
        in_flight.output_token_ids += output.token_ids
        in_flight.num_new_tokens += len(output.token_ids)
        self.num_tokens += len(output.token_ids)
        if in_flight.num_new_tokens >= PROOF_TOKENS:
            self._clear(output.request_id)
        if output.finish_reason is not None:
            self._rate.completed()
            self._forget(output.request_id)
        in_flight.stream.push(output)

    def _note_left_out(self, request_id: str, left_out: list[LeftOut]) -> None:
        in_flight = self._in_flight.get(request_id)
        if isinstance(in_flight, InFlight):
            in_flight.stream.left_out = left_out

    def _deliver_vectors(self, request_id: str, vectors: list[bytes]) -> None:
        in_flight = self._in_flight.get(request_id)
        if isinstance(in_flight, EmbeddingInFlight) and in_flight.push(vectors):
            self._rate.completed()
            self._forget(request_id)

    def _refused(self, failed: RequestFailed) -> None:
        in_flight = self._forget(failed.request_id)
        if in_flight is not None:
            self._abort(in_flight.stream.fail(self._to_error(failed)))

    def abort_all(self, error: LockgateError) -> None:
        """Give up everything in flight; its readers get `error`."""
        request_ids = list(self._in_flight)
        self._fail_all(error)
        if self._send is not None:
            for request_id in request_ids:
                self._send(Abort(request_id))

    def _fail_waiting(self, reason: str) -> None:
        """Fail the streams without output so far. They have lost nothing, so clients may retry."""
        error = EngineUnavailable(reason, retry_after=UNAVAILABLE_RETRY_SECONDS)
        begun = {id(entry.stream) for entry in self._in_flight.values() if entry.has_begun}
        for in_flight in list(self._in_flight.values()):
            if id(in_flight.stream) not in begun:
                self._forget(in_flight.request.request_id)
                in_flight.stream.fail(error)

    def _fail_all(self, error: LockgateError) -> None:
        streams = {id(entry.stream): entry.stream for entry in self._in_flight.values()}
        self._in_flight.clear()
        self._suspects = Suspects()
        self._num_waiting_tokens = 0
        self._rate.in_flight(0)
        for stream in streams.values():
            stream.fail(error)

    def _abort(self, request_ids: list[str]) -> None:
        for request_id in request_ids:
            if self._forget(request_id) is not None and self._send is not None:
                self._send(Abort(request_id))

    def _forget(self, request_id: str) -> InFlight | EmbeddingInFlight | None:
        in_flight = self._in_flight.pop(request_id, None)
        self._clear(request_id)
        if in_flight is not None:
            self._num_waiting_tokens -= in_flight.waiting_tokens
        self._rate.in_flight(len(self._in_flight))
        return in_flight

    def _limits(self) -> EngineLimits:
        """Limits of the engine that is ready or restarting. Without one, raises an error."""
        if self.state not in ("ready", "restarting") or self.limits is None:
            retry_after = 5.0 if self.state == "starting" else UNAVAILABLE_RETRY_SECONDS
            raise EngineUnavailable(self.state_reason, retry_after=retry_after)
        return self.limits

    def _check_room(self, num_requests: int, limits: EngineLimits, param: str = "n") -> None:
        if not limits.can_generate:
            raise InvalidRequest(
                "This model makes embeddings and does nothing else. Use /v1/embeddings.",
                param="model",
                code="unsupported_value",
            )
        self._check_capacity(num_requests, limits, param)

    def _check_capacity(self, num_requests: int, limits: EngineLimits, param: str = "n") -> None:
        capacity = limits.max_num_seqs + limits.max_num_waiting
        if num_requests > capacity:
            raise InvalidRequest(
                f"This request asks for {num_requests} answers; the server takes at most"
                f" {capacity} at a time. Ask for fewer choices or send fewer prompts.",
                param=param,
            )
        missing = len(self._in_flight) + num_requests - capacity
        if missing > 0:
            raise EngineOverloaded(
                f"The queue is full; requests that run or wait: {len(self._in_flight)}.",
                retry_after=self._rate.retry_after(missing),
            )

    def _check_tokens(self, num_tokens: int) -> None:
        """A prompt is accepted at any length while no other prompt waits."""
        limit, waiting = self.max_num_waiting_tokens, self._num_waiting_tokens
        if not limit or not waiting or waiting + num_tokens <= limit:
            return
        raise EngineOverloaded(
            f"The queue is full; tokens of the prompts that wait: {waiting}.",
            retry_after=self._rate.retry_after(self._num_in_front_of(waiting + num_tokens - limit)),
        )

    def _num_in_front_of(self, num_tokens: int) -> int:
        """Number of requests that must leave the queue to free `num_tokens` of its tokens."""
        lengths = (entry.waiting_tokens for entry in self._in_flight.values())
        return sum(freed < num_tokens for freed in accumulate(filter(None, lengths))) + 1

    def _to_error(self, failed: RequestFailed) -> LockgateError:
        match failed.kind:
            case "invalid":
                return InvalidRequest(failed.message, param=failed.param, code=failed.code)
            case "overloaded":
                return EngineOverloaded(failed.message, retry_after=failed.retry_after)
            case "expired":
                return DeadlineExceeded(failed.message, retry_after=self._seconds_of_queue())
            case "internal":
                return EngineError(failed.message)

    def _seconds_of_queue(self) -> float:
        """Seconds until all requests that wait now, and one more, have been served."""
        return self._rate.retry_after(self.stats.num_waiting + 1)
