"""What is known of a route beyond its path and its docstring, kept in Litestar's `opt`."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from litestar.handlers import HTTPRouteHandler
from msgspec import Struct

from gateway.errors import ErrorBody, ErrorReply, ErrorResponse
from gateway.generation.writer import broken_stream

_KEY = "facts"

BODY_ERRORS = (400, 404, 413, 415, 503)
"""Statuses of a route that reads a body and names a model."""

ENGINE_ERRORS = (*BODY_ERRORS, 429)
"""Statuses of a route that uses the engine."""


class Envelope(Protocol):
    """The form that one family of APIs has for errors: a type of Struct that is made of an error
    and its status."""

    def of(self, reply: ErrorReply) -> Struct: ...


class RouteFacts(Struct, frozen=True, kw_only=True):
    """`body`, `answer` and `event` are the types of the request's body, of the answer and of the
    events of a stream (a union if the events have names); None means that there is none, or an
    answer of any shape. `query` is the type of the parameters in the URL. `text_type` is the media
    type of a text that is answered in place of `media_type` if a client asks for it.

    `errors` are the statuses beside those that every route may have, `done` is that of success.
    `unavailable` is the body of a 503, if it is not the `envelope`, in which the route's errors are
    written. `operation` is OpenTelemetry's `gen_ai.operation.name` of a route that uses the engine.
    `shown_paths` are what a description of the API shows instead of the route's own path.
    `broken_stream` writes the error that ends a stream before its first event.
    `parts` are further types that a description of the API needs, and `describe` adds to the JSON
    schemas, by name, what the types do not say.
    """

    body: Any = None
    query: Any = None
    answer: Any = None
    event: Any = None
    errors: tuple[int, ...] = ()
    done: int = 200
    media_type: str = "application/json"
    text_type: str = ""
    unavailable: Any = None
    envelope: Envelope = ErrorResponse
    operation: str = ""
    shown_paths: tuple[str, ...] = ()
    broken_stream: Callable[[ErrorBody], bytes] = broken_stream
    parts: tuple[Any, ...] = ()
    describe: Callable[[dict[str, Any]], None] | None = None


def facts(**fields: Any) -> dict[str, Any]:
    """The `opt` of a route with these `RouteFacts`."""
    return {_KEY: RouteFacts(**fields)}


def facts_of(handler: Any) -> RouteFacts:
    """The facts of a route's handler; the defaults if it has none, or if there is no handler."""
    found = None if handler is None else handler.opt.get(_KEY)
    return found if isinstance(found, RouteFacts) else RouteFacts()


def operations_of(handlers: Iterable[HTTPRouteHandler]) -> dict[str, str]:
    """The `operation` of each path that has one."""
    return {
        path: operation
        for handler in handlers
        if (operation := facts_of(handler).operation)
        for path in handler.paths
    }
