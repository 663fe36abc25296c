"""What crosses the border between gateway process and engine process: msgpack, tagged, frozen."""

from typing import Literal, TypeVar, overload

import msgspec
from msgspec import Struct

from runtime.messages.embedding import EmbeddingRequest
from runtime.messages.engine import (
    Capability,
    EngineInfo,
    EngineLimits,
    EngineStats,
)
from runtime.messages.loading import LoadPhase
from runtime.messages.request import Request, RequestOutput
from runtime.messages.structured_output import LeftOut

Work = TypeVar("Work", Request, EmbeddingRequest)


class Submit(Struct, frozen=True, tag=True, array_like=True):
    """Gateway to engine: generate this.

    The two processes need not share a clock. So the request's own times are 0 on the way, and the
    message has durations instead: `seconds_waited` since the request's arrival, and `seconds_left`
    until its deadline, None without one.
    """

    request: Request
    seconds_waited: float = 0.0
    seconds_left: float | None = None


class Embed(Struct, frozen=True, tag=True, array_like=True):
    """Gateway to engine: turn these texts into vectors. Times are as in `Submit`."""

    request: EmbeddingRequest
    seconds_waited: float = 0.0
    seconds_left: float | None = None


class Abort(Struct, frozen=True, tag=True, array_like=True):
    """Gateway to engine: forget this request. Unknown ids are ignored."""

    request_id: str


class LoadAdapter(Struct, frozen=True, tag=True, array_like=True):
    """Gateway to engine: load this LoRA adapter, or the new file of its name. An `AdapterAnswer`
    says how that went."""

    name: str
    path: str
    scale: float = 1.0


class UnloadAdapter(Struct, frozen=True, tag=True, array_like=True):
    """Gateway to engine: no request needs this adapter any more. Unknown names are ignored."""

    name: str


class AdapterAnswer(Struct, frozen=True, tag=True, array_like=True):
    """Engine to gateway: this adapter is loaded, or `problem` says in a sentence why not."""

    name: str
    problem: str = ""


class Stop(Struct, frozen=True, tag=True, array_like=True):
    """Gateway to engine: leave now."""


class Loading(Struct, frozen=True, tag=True, array_like=True):
    """Engine to gateway: the phase of its start, and the share of it that is done, 0 to 1."""

    phase: LoadPhase
    fraction: float | None = None


class Ready(Struct, frozen=True, tag=True, array_like=True):
    """Engine to gateway: the model is loaded."""

    limits: EngineLimits
    info: EngineInfo
    capabilities: frozenset[Capability] = frozenset()


class StepOutput(Struct, frozen=True, tag=True, array_like=True):
    """Engine to gateway: all that one step produced. Without outputs it is the heartbeat.

    `preparation_seconds` has an entry for each request whose grammar became ready since the last
    step: the seconds that the request waited for it.
    """

    outputs: list[RequestOutput]
    stats: EngineStats
    preparation_seconds: list[float] = []


class Loosened(Struct, frozen=True, tag=True, array_like=True):
    """Engine to gateway: these keywords of the request's schemas are not enforced. It comes before
    the first delta, and only if there are any."""

    request_id: str
    left_out: list[LeftOut]


class Embedded(Struct, frozen=True, tag=True, array_like=True):
    """Engine to gateway: the next vectors of an `Embed`, in the order of its inputs. Each is
    `embedding_width` little-endian numbers of 32 bits, of length 1 (L2), or one such number for a
    model that ranks."""

    request_id: str
    vectors: list[bytes]


FailureKind = Literal["invalid", "overloaded", "expired", "internal"]


class RequestFailed(Struct, frozen=True, tag=True, array_like=True):
    """Engine to gateway: this request ends here. An "expired" request waited until its deadline.
    `retry_after` is in seconds, for "overloaded"; the gateway itself computes it for "expired"."""

    request_id: str
    kind: FailureKind
    message: str
    param: str | None = None
    code: str = "invalid_value"
    retry_after: float = 0.0


EXIT_FATAL = 70
"""Exit status after a `Fatal` message (EX_SOFTWARE of sysexits): the engine could not load."""

EXIT_ENGINE_FATAL = 71
"""Exit status after a `Fatal` message: the engine broke while it served."""


class Fatal(Struct, frozen=True, tag=True, array_like=True):
    """Engine to gateway: the last word of a dying engine."""

    reason: str


def without_times(request: Work, now: float) -> tuple[Work, float, float | None]:
    """A request without its times, its seconds since arrival, and its seconds until the deadline.
    `now` is on the clock of these times."""
    seconds_left = request.deadline - now if request.deadline else None
    timeless = msgspec.structs.replace(request, arrival_time=0.0, deadline=0.0)
    return timeless, max(now - request.arrival_time, 0.0), seconds_left


@overload
def with_times(message: Submit, now: float) -> Request: ...
@overload
def with_times(message: Embed, now: float) -> EmbeddingRequest: ...
def with_times(message: Submit | Embed, now: float) -> Request | EmbeddingRequest:
    """The request of a message, with its times on the clock of `now`."""
    deadline = 0.0 if message.seconds_left is None else now + message.seconds_left
    return msgspec.structs.replace(
        message.request, arrival_time=now - message.seconds_waited, deadline=deadline
    )


ToEngine = Submit | Embed | Abort | LoadAdapter | UnloadAdapter | Stop
FromEngine = (
    Loading | Ready | StepOutput | Loosened | Embedded | RequestFailed | AdapterAnswer | Fatal
)

_encoder = msgspec.msgpack.Encoder()

encode = _encoder.encode
decode_to_engine = msgspec.msgpack.Decoder(ToEngine).decode
decode_from_engine = msgspec.msgpack.Decoder(FromEngine).decode
