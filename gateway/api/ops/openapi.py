"""GET /openapi.json: this server in OpenAPI 3.1.

The document is written from the routes and their facts, which the server itself uses, so the two
cannot differ.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import msgspec
from litestar import get
from litestar.routes import BaseRoute, HTTPRoute
from litestar.types import ASGIApp

from gateway.errors import ErrorResponse
from gateway.generation.writer import encode
from gateway.http.context import AnyRequest
from gateway.http.json_response import JSONBytes
from gateway.http.route_facts import RouteFacts, facts_of
from runtime.version import __version__

Json = dict[str, Any]

ERRORS: Mapping[int, str] = {
    400: "The request is wrong; `param` names what, and nothing has been done.",
    404: "There is no such model or response, or nothing at this path.",
    413: "The body is larger than the settings allow.",
    415: "The body is not declared as JSON.",
    429: "The queue is full, or a limit has been reached; `Retry-After` says when to come back.",
    500: "The engine or the server failed on this request.",
    503: "The model is loading, or the engine is not available; `Retry-After` says when to come"
    " back.",
}

HEADERS: Mapping[str, Json] = {
    "x-request-id": {
        "description": "The client's own id if it sent a plain one, otherwise one of the server's.",
        "schema": {"type": "string"},
    },
    "openai-processing-ms": {
        "description": "Milliseconds from the request's arrival to the first byte of the response.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "x-ignored-parameters": {
        "description": "The parameters of the request that had no effect, percent-encoded.",
        "schema": {"type": "string"},
    },
    "x-dropped-items": {
        "description": "How many of the oldest items the prompt is without, because it was too"
        " long.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "x-loosened-keywords": {
        "description": "Keywords of JSON schemas that are not enforced, by parameter and place.",
        "schema": {"type": "string"},
    },
}

DESCRIPTION = (
    "OpenAI's API, served from one machine. Every field is honoured, without effect, or refused"
    " with a 400 that names it. Of the fields that are not described here, those of other servers"
    " are read under their names here, or refused, or without effect, and all others are ignored;"
    " the header `x-ignored-parameters` names what had no effect. /generate refuses every field"
    " that it does not read. Every error has the same envelope. A stream is a series of events"
    " `data: {...}`, ends with `data: [DONE]`, and may have comments (`: keep-alive`) in between;"
    " what fails after it has begun is one event with `error`. The events of /v1/responses are"
    " named by `event:`; the last is `response.completed`, `response.incomplete` or"
    " `response.failed`, and there is no `[DONE]`."
)


@get("/openapi.json", sync_to_thread=False)
def openapi_json(request: AnyRequest) -> ASGIApp:
    """This document."""
    state = request.app.state
    if "openapi" not in state:
        state["openapi"] = encode(document(request.app.routes))
    return JSONBytes(state["openapi"])


def document(routes: Iterable[BaseRoute]) -> Json:
    """The OpenAPI document of a server with these routes."""
    paths: Json = {}
    known: list[RouteFacts] = []
    for route in routes:
        if isinstance(route, HTTPRoute):
            for method, handler in _handlers(route).items():
                known.append(facts_of(handler))
                for path in known[-1].shown_paths or (_path(route),):
                    paths.setdefault(path, {})[method.lower()] = _described(method, path, handler)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Lockgate",
            "version": __version__,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": _schemas(known),
            "headers": dict(HEADERS),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _path(route: HTTPRoute) -> str:
    return re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path_format)


def _described(method: str, path: str, handler: Any) -> Json:
    return _operation(method, path, handler.fn.__doc__ or "", facts_of(handler))


def _handlers(route: HTTPRoute) -> dict[str, Any]:
    handlers = {}
    for handler in route.route_handlers:
        for method in handler.http_methods:
            if method != "OPTIONS":
                handlers[str(method)] = handler
    return handlers


def _operation(method: str, path: str, docstring: str, known: RouteFacts) -> Json:
    summary, _, rest = " ".join(docstring.split()).partition(". ")
    operation: Json = {
        "operationId": re.sub(r"\W+", "_", f"{method.lower()}{path}").strip("_"),
        "summary": summary.rstrip("."),
        "responses": _responses(known),
    }
    if rest:
        operation["description"] = rest
    parameters = [_path_parameter(name) for name in re.findall(r"\{(\w+)\}", path)]
    parameters += [] if known.query is None else _query_parameters(known.query)
    if parameters:
        operation["parameters"] = parameters
    if known.body is not None:
        content = {"application/json": {"schema": _reference(known.body)}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _path_parameter(name: str) -> Json:
    schema = {"type": "string", "minLength": 1}
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": schema,
        **({"description": "May contain slashes."} if name == "model_id" else {}),
    }


def _query_parameters(kind: Any) -> list[Json]:
    """The schemas stand where they are used, since they refer to no other. A mapping is written as
    `name[key]=value`."""
    (_,), components = msgspec.json.schema_components([kind])
    found = components[kind.__name__]
    required = found.get("required", ())
    return [
        {
            "name": name,
            "in": "query",
            **({"required": True} if name in required else {}),
            **({"style": "deepObject"} if schema.get("type") == "object" else {}),
            "schema": schema,
        }
        for name, schema in found["properties"].items()
    ]


def _responses(known: RouteFacts) -> Json:
    content: Json = {known.media_type: {"schema": _answer_schema(known)}}
    if known.text_type:
        content[known.text_type] = {"schema": {"type": "string"}}
    if known.event is not None:
        content["text/event-stream"] = {"schema": _event_schema(known)}
    responses = {str(known.done): _response("Done.", content)}
    for status in sorted({*known.errors, 500}):
        kind = known.unavailable if status == 503 else None
        error = {"application/json": {"schema": _reference(kind or known.envelope)}}
        responses[str(status)] = _response(ERRORS.get(status, "The request failed."), error)
    envelope = {"application/json": {"schema": _reference(known.envelope)}}
    responses["default"] = _response("Every other error.", envelope)
    return responses


def _event_schema(known: RouteFacts) -> Json:
    """One event of a stream, in the form of OpenAPI 3.2."""
    if kinds := get_args(known.event):
        return _named_event_schema(kinds)
    chunk = {"contentMediaType": "application/json", "contentSchema": _reference(known.event)}
    error = {"contentMediaType": "application/json", "contentSchema": _reference(known.envelope)}
    data = {"type": "string", "anyOf": [chunk, error, {"const": "[DONE]"}]}
    return {
        "type": "object",
        "description": "With `stream: true`: one of the events.",
        "properties": {"data": data},
        "required": ["data"],
    }


def _named_event_schema(kinds: Sequence[Any]) -> Json:
    """One event of a stream whose events have names; the last event says how the stream ended."""
    chunks = [
        {"contentMediaType": "application/json", "contentSchema": _reference(kind)}
        for kind in kinds
    ]
    names = [kind.__struct_config__.tag for kind in kinds]
    return {
        "type": "object",
        "description": "With `stream: true`: one of the events.",
        "properties": {"event": {"enum": names}, "data": {"type": "string", "anyOf": chunks}},
        "required": ["event", "data"],
    }


def _answer_schema(known: RouteFacts) -> Json:
    if known.answer is not None:
        return _reference(known.answer)
    return {"type": "string"} if known.media_type.startswith("text/") else {}


def _response(description: str, content: Json) -> Json:
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in HEADERS}
    return {"description": description, "headers": headers, "content": content}


def _reference(kind: Any) -> Json:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def _schemas(routes: Sequence[RouteFacts]) -> Json:
    kinds: set[Any] = {ErrorResponse}
    for known in routes:
        events = get_args(known.event) or (known.event,)
        kinds |= {known.answer, known.body, known.unavailable, known.envelope}
        kinds |= {*events, *known.parts}
    kinds.discard(None)
    _, schemas = msgspec.json.schema_components(
        sorted(kinds, key=lambda kind: str(kind.__name__)),
        ref_template="#/components/schemas/{name}",
    )
    for known in routes:
        if known.describe is not None:
            known.describe(schemas)
    return schemas
