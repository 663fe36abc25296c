"""The interface of answer writers: events in, bytes out."""

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
    """The fields that every chunk of an answer repeats. `service_tier` is present only if the
    client set one, `system_fingerprint` unless the settings disable it."""

    id: str
    created: int
    model: str
    system_fingerprint: str | None
    service_tier: str | None = None


class AnswerWriter(Protocol):
    """How one endpoint writes answers. A stream consists of `frames` and then `end` or `failed`. A
    whole answer is written by `whole`; the writer may `take` its events before."""

    def frames(self, events: Sequence[Event]) -> bytes:
        """The server-sent events for these events; may be empty."""
        ...

    def whole(self, answer: Answer) -> bytes:
        """The JSON body of a finished answer."""
        ...

    def take(self, events: Sequence[Event]) -> None:
        """Receives the events of an answer that is sent as a whole."""
        return None  # most have no use for them

    @property
    def end(self) -> bytes:
        """The closing frames of a complete answer's stream."""
        return DONE

    def failed(self, error: ErrorBody) -> bytes:
        """The closing frames of a stream whose answer an error ended."""
        return error_frame(error) + DONE


def error_frame(error: ErrorBody) -> bytes:
    """An error sent after the headers; the official client raises it."""
    return b"data: " + encode(ErrorResponse(error)) + b"\n\n"
