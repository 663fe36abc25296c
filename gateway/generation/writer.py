"""What a writer of answers does: events in, bytes out."""

from collections.abc import Sequence
from typing import Protocol

import msgspec
from msgspec import Struct

from gateway.errors import ErrorBody, ErrorResponse
from gateway.generation.events import (
    Answer,
    Event,
)

encode = msgspec.json.Encoder().encode


DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"


class Head(Struct, frozen=True):
    """What every chunk of an answer repeats. `service_tier` only if the client asked for one,
    `system_fingerprint` unless the settings leave it out."""

    id: str
    created: int
    model: str
    system_fingerprint: str | None
    service_tier: str | None = None


class AnswerWriter(Protocol):
    """How one endpoint writes answers: as a stream, from `frames` and then `end` or `failed`, or as
    a `whole`, where it may `take` note of the events before."""

    def frames(self, events: Sequence[Event]) -> bytes:
        """The server-sent events for these events; may be empty."""
        ...

    def whole(self, answer: Answer) -> bytes:
        """The JSON body of a finished answer."""
        ...

    def take(self, events: Sequence[Event]) -> None:
        """Events of an answer that is sent as a whole."""
        return None  # most have no use for them

    @property
    def end(self) -> bytes:
        """What the stream of a complete answer closes with."""
        return DONE

    def failed(self, error: ErrorBody) -> bytes:
        """What the stream of an answer closes with that an error ended."""
        return error_frame(error) + DONE


def error_frame(error: ErrorBody) -> bytes:
    """An error after the headers have gone; the official client raises it."""
    return b"data: " + encode(ErrorResponse(error)) + b"\n\n"
