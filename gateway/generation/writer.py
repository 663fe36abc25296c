"""The interface of answer writers: events in, bytes out."""

import time
from collections.abc import Sequence
from typing import Protocol

import msgspec
from msgspec import Struct

from gateway.errors import ErrorBody, ErrorResponse
from gateway.generation.events import Answer, Event
from gateway.models.served_model import ServedModel

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


def new_head(answer_id: str, model: ServedModel, service_tier: str | None = None) -> Head:
    """The head of an answer that this model begins now."""
    return Head(
        id=answer_id,
        created=int(time.time()),
        model=model.name,
        system_fingerprint=model.system_fingerprint,
        service_tier=service_tier,
    )


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
        return broken_stream(error)


def broken_stream(error: ErrorBody) -> bytes:
    """The closing frames of a stream that an error ended, in the form of most APIs."""
    return error_frame(error) + DONE


def error_frame(error: ErrorBody) -> bytes:
    """An error sent after the headers; the official client raises it."""
    return b"data: " + encode(ErrorResponse(error)) + b"\n\n"
