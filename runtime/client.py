"""The gateway's side of the engine: submit requests, read their tokens, know the engine's state."""

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from runtime.errors import (
    DeadlineExceeded,
    EngineError,
    EngineOverloaded,
    EngineUnavailable,
    InvalidRequest,
    LockgateError,
)
from runtime.messages import (
    Abort,
    EngineInfo,
    EngineLimits,
    EngineStats,
    FromEngine,
    Ready,
    RequestFailed,
    StepOutput,
    Submit,
    ToEngine,
)
from runtime.request import Request, RequestOutput
from runtime.service_rate import ServiceRate
from runtime.stream import TokenStream

EngineState = Literal["starting", "ready", "restarting", "failed"]


class _InFlight:
    """A request between submission and end, with the tokens its client already has."""

    def __init__(self, request: Request, stream: TokenStream) -> None:
        self.request = request
        self.stream = stream
        self.output_token_ids: list[int] = []

    def resumed(self) -> Request:
        return msgspec.structs.replace(
            self.request, output_token_ids=self.request.output_token_ids + self.output_token_ids
        )


class EngineClient:
    """Owns every request in flight. Single-threaded: lives on one event loop.

    The supervisor tells it when an engine is there (`connected`), what the engine says
    (`receive`) and when it is gone (`lost`); requests in flight are handed to the next engine.
    `num_restarts` counts engines that were lost and are followed by another one, `num_resumed` the
    requests that were handed over.
    """

    def __init__(self) -> None:
        self._in_flight: dict[str, _InFlight] = {}
        self._send: Callable[[ToEngine], None] | None = None
        self._rate = ServiceRate()
        self.state: EngineState = "starting"
        self.state_reason = "The engine is starting."
        self.limits: EngineLimits | None = None
        self.info: EngineInfo | None = None
        self.stats = EngineStats()
        self.num_restarts = 0
        self.num_resumed = 0

    @property
    def num_in_flight(self) -> int:
        return len(self._in_flight)

    def check_room(self, num_requests: int) -> None:
        """Raises what `submit` would raise now for so many requests: before their prompts are
        made, a refusal costs next to nothing."""
        limits, _ = self._limits_and_send()
        self._check_room(num_requests, limits)

    def submit(self, requests: Sequence[Request]) -> TokenStream:
        """Hand requests to the engine; their deltas come out of one stream.

        Raises EngineUnavailable while no engine is ready, EngineOverloaded when they do not fit
        beside those in flight, InvalidRequest when they are more than ever fit.
        """
        limits, send = self._limits_and_send()
        self._check_room(len(requests), limits)
        stream = TokenStream([request.request_id for request in requests], self._abort)
        for request in requests:
            assert request.request_id not in self._in_flight, "request id used twice: a bug"
            self._in_flight[request.request_id] = _InFlight(request, stream)
            send(Submit(request))
        self._rate.in_flight(len(self._in_flight))
        return stream

    def connected(self, send: Callable[[ToEngine], None], ready: Ready) -> None:
        """An engine is ready: resume what was in flight when the last one went."""
        self._send = send
        self.limits = ready.limits
        self.info = ready.info
        self.state, self.state_reason = "ready", ""
        self.num_resumed += len(self._in_flight)
        for in_flight in self._in_flight.values():
            send(Submit(in_flight.resumed()))

    def receive(self, message: FromEngine) -> None:
        """Deliver what the engine says about requests and about itself."""
        match message:
            case StepOutput(outputs, stats):
                self.stats = stats
                for output in outputs:
                    self._deliver(output)
            case RequestFailed():
                self._refused(message)

    def lost(self, state: EngineState, reason: str) -> None:
        """The engine is gone. Unless another one follows, everything in flight fails."""
        self._send = None
        self.state, self.state_reason = state, reason
        self.stats = EngineStats()
        self.num_restarts += state == "restarting"
        if state == "failed":
            self._fail_all(EngineError(reason))

    def _deliver(self, output: RequestOutput) -> None:
        in_flight = self._in_flight.get(output.request_id)
        if in_flight is None:
            return  # aborted while this was on its way
        in_flight.output_token_ids += output.token_ids
        if output.finish_reason is not None:
            self._rate.completed()
            self._forget(output.request_id)
        in_flight.stream.push(output)

    def _refused(self, failed: RequestFailed) -> None:
        in_flight = self._forget(failed.request_id)
        if in_flight is not None:
            self._abort(in_flight.stream.fail(self._to_error(failed)))

    def _fail_all(self, error: LockgateError) -> None:
        streams = {id(entry.stream): entry.stream for entry in self._in_flight.values()}
        self._in_flight.clear()
        self._rate.in_flight(0)
        for stream in streams.values():
            stream.fail(error)

    def _abort(self, request_ids: list[str]) -> None:
        for request_id in request_ids:
            if self._forget(request_id) is not None and self._send is not None:
                self._send(Abort(request_id))

    def _forget(self, request_id: str) -> _InFlight | None:
        in_flight = self._in_flight.pop(request_id, None)
        self._rate.in_flight(len(self._in_flight))
        return in_flight

    def _limits_and_send(self) -> tuple[EngineLimits, Callable[[ToEngine], None]]:
        if self.state != "ready" or self._send is None or self.limits is None:
            retry_after = 5.0 if self.state == "starting" else 10.0
            raise EngineUnavailable(self.state_reason, retry_after=retry_after)
        return self.limits, self._send

    def _check_room(self, num_requests: int, limits: EngineLimits) -> None:
        capacity = limits.max_num_seqs + limits.max_num_waiting
        if num_requests > capacity:
            raise InvalidRequest(
                f"This request asks for {num_requests} answers; the server takes at most"
                f" {capacity} at a time. Ask for fewer choices or send fewer prompts.",
                param="n",
            )
        missing = len(self._in_flight) + num_requests - capacity
        if missing > 0:
            raise EngineOverloaded(
                f"The queue is full: {len(self._in_flight)} requests are running or waiting.",
                retry_after=self._rate.retry_after(missing),
            )

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
        """Until all that waits now has been served, and one more."""
        return self._rate.retry_after(self.stats.num_waiting + 1)
