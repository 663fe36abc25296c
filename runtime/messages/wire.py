"""What crosses the border between gateway process and engine process: msgpack, tagged, frozen."""

from typing import Literal

import msgspec
from msgspec import Struct

from runtime.messages.embedding import EmbeddingRequest
from runtime.messages.engine import (
    EngineInfo,
    EngineLimits,
    EngineStats,
)
from runtime.messages.request import Request, RequestOutput


class Submit(Struct, frozen=True, tag=True, array_like=True):
    """Gateway to engine: generate this."""

    request: Request


class Embed(Struct, frozen=True, tag=True, array_like=True):
    """Gateway to engine: turn these texts into vectors."""

    request: EmbeddingRequest


class Abort(Struct, frozen=True, tag=True, array_like=True):
    """Gateway to engine: forget this request. Unknown ids are ignored."""

    request_id: str


class Stop(Struct, frozen=True, tag=True, array_like=True):
    """Gateway to engine: leave now."""


class Ready(Struct, frozen=True, tag=True, array_like=True):
    """Engine to gateway: the model is loaded."""

    limits: EngineLimits
    info: EngineInfo


class StepOutput(Struct, frozen=True, tag=True, array_like=True):
    """Engine to gateway: all that one step produced. Without outputs it is the heartbeat.

    `preparation_seconds` has an entry for each request whose grammar became ready since the last
    step: the seconds that the request waited for it.
    """

    outputs: list[RequestOutput]
    stats: EngineStats
    preparation_seconds: list[float] = []


class Embedded(Struct, frozen=True, tag=True, array_like=True):
    """Engine to gateway: the next vectors of an `Embed`, in the order of its inputs. Each is
    `embedding_width` little-endian numbers of 32 bits, of length 1 (L2)."""

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


class Fatal(Struct, frozen=True, tag=True, array_like=True):
    """Engine to gateway: the last word of a dying engine."""

    reason: str


ToEngine = Submit | Embed | Abort | Stop
FromEngine = Ready | StepOutput | Embedded | RequestFailed | Fatal

_encoder = msgspec.msgpack.Encoder()

encode = _encoder.encode
decode_to_engine = msgspec.msgpack.Decoder(ToEngine).decode
decode_from_engine = msgspec.msgpack.Decoder(FromEngine).decode
