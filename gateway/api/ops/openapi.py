"""GET /openapi.json: this server in OpenAPI 3.1.

Written from what the code itself goes by: the routes, the Structs of requests and answers, the
table of errors, the tables of fields that are refused or have no effect. So it cannot say other
things than the server does.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import msgspec
from litestar import get
from litestar.routes import BaseRoute, HTTPRoute
from litestar.types import ASGIApp
from msgspec import Struct

from gateway.api.native.generate import GenerateRequest, Generation, GenerationChunk
from gateway.api.native.tokenize import DetokenizeRequest, Text, TokenizeRequest, Tokens
from gateway.api.openai.protocol.answers import ChatCompletion, Completion
from gateway.api.openai.protocol.chunks import ChatCompletionChunk, CompletionChunk
from gateway.api.openai.protocol.embedding import EmbeddingList, EmbeddingRequest
from gateway.api.openai.protocol.models import Model, ModelList
from gateway.api.openai.protocol.requests import ChatCompletionRequest, CompletionRequest
from gateway.api.openai.responses import unsupported as response_fields
from gateway.api.openai.responses.answers import InputTokens, Response, ResponseEvent
from gateway.api.openai.responses.protocol import (
    InputItem,
    InputTokensRequest,
    ResponseRequest,
    ResponseTool,
)
from gateway.api.openai.translate.unsupported import (
    HARMLESS,
    NOT_SUPPORTED,
    NOT_SUPPORTED_EXTENSIONS,
)
from gateway.api.ops.admin import RestartState
from gateway.api.ops.health import Health, Readiness
from gateway.api.ops.version import Version
from gateway.errors import ErrorResponse
from gateway.generation.scheduling import MAX_PRIORITY, PRIORITIES
from gateway.generation.writer import encode
from gateway.http.context import AnyRequest
from gateway.http.json_response import JSONBytes
from runtime.version import __version__

Json = dict[str, Any]


class Operation(Struct, frozen=True):
    """What a route takes and gives, beyond what its handler's docstring says.

    `event` is what a stream is made of; of events that have names it is the union. An `answer` of
    None is text or JSON of any shape. `errors` are statuses beside those that every route may have,
    `done` is the one of success.
    """

    answer: Any = None
    request: Any = None
    event: Any = None
    errors: tuple[int, ...] = ()
    media_type: str = "application/json"
    unavailable: Any = ErrorResponse
    done: int = 200


_BODY = (400, 404, 413, 415, 503)
_ENGINE = (*_BODY, 429)

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("POST", "/v1/chat/completions"): Operation(
        ChatCompletion, ChatCompletionRequest, ChatCompletionChunk, _ENGINE
    ),
    ("POST", "/v1/completions"): Operation(Completion, CompletionRequest, CompletionChunk, _ENGINE),
    ("POST", "/v1/responses"): Operation(Response, ResponseRequest, ResponseEvent, _ENGINE),
    ("POST", "/v1/responses/input_tokens"): Operation(
        InputTokens, InputTokensRequest, errors=_BODY
    ),
    ("GET", "/v1/responses/{response_id}"): Operation(errors=(404,)),
    ("DELETE", "/v1/responses/{response_id}"): Operation(errors=(404,)),
    ("GET", "/v1/responses/{response_id}/input_items"): Operation(errors=(404,)),
    ("POST", "/v1/responses/{response_id}/cancel"): Operation(errors=(404, 503)),
    ("POST", "/v1/embeddings"): Operation(EmbeddingList, EmbeddingRequest, errors=_ENGINE),
    ("POST", "/generate"): Operation(Generation, GenerateRequest, GenerationChunk, _ENGINE),
    ("POST", "/tokenize"): Operation(Tokens, TokenizeRequest, errors=_BODY),
    ("POST", "/detokenize"): Operation(Text, DetokenizeRequest, errors=_BODY),
    ("GET", "/v1/models"): Operation(ModelList),
    ("GET", "/v1/models/{model_id}"): Operation(Model, errors=(404,)),
    ("GET", "/health"): Operation(Health, errors=(503,), unavailable=Health),
    ("GET", "/health/ready"): Operation(Readiness, errors=(503,), unavailable=Readiness),
    ("GET", "/version"): Operation(Version),
    ("POST", "/admin/restart"): Operation(RestartState, done=202),
    ("GET", "/metrics"): Operation(media_type="text/plain"),
}
"""Routes that are not here are described by their docstrings alone."""

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
}

DESCRIPTION = (
    "OpenAI's API, served from one machine. Every field is honoured, without effect, or refused"
    " with a 400 that names it; fields that are not described here are ignored, but /generate"
    " refuses them. Every error has the same envelope. A stream is a series of events `data:"
    " {...}`, ends with `data: [DONE]`, and may have comments (`: keep-alive`) in between; what"
    " fails after it has begun is one event with `error`. The events of /v1/responses are named by"
    " `event:`; the last is `response.completed`, `response.incomplete` or `response.failed`, and"
    " there is no `[DONE]`."
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
    for route in routes:
        if isinstance(route, HTTPRoute):
            paths.setdefault(_path(route), {}).update(_operations(route))
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
            "schemas": _schemas(),
            "headers": dict(HEADERS),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _path(route: HTTPRoute) -> str:
    return re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path_format)


def _operations(route: HTTPRoute) -> Json:
    path = _path(route)
    return {
        method.lower(): _operation(method, path, handler.fn.__doc__ or "")
        for method, handler in _handlers(route).items()
    }


def _handlers(route: HTTPRoute) -> dict[str, Any]:
    handlers = {}
    for handler in route.route_handlers:
        for method in handler.http_methods:
            if method != "OPTIONS":
                handlers[str(method)] = handler
    return handlers


def _operation(method: str, path: str, docstring: str) -> Json:
    known = OPERATIONS.get((method, path), Operation())
    summary, _, rest = " ".join(docstring.split()).partition(". ")
    operation: Json = {
        "operationId": re.sub(r"\W+", "_", f"{method.lower()}{path}").strip("_"),
        "summary": summary.rstrip("."),
        "responses": _responses(known),
    }
    if rest:
        operation["description"] = rest
    if names := re.findall(r"\{(\w+)\}", path):
        operation["parameters"] = [_path_parameter(name) for name in names]
    if known.request is not None:
        content = {"application/json": {"schema": _reference(known.request)}}
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


def _responses(known: Operation) -> Json:
    content: Json = {known.media_type: {"schema": _answer_schema(known)}}
    if known.event is not None:
        content["text/event-stream"] = {"schema": _event_schema(known.event)}
    responses = {str(known.done): _response("Done.", content)}
    for status in sorted({*known.errors, 500}):
        kind = known.unavailable if status == 503 else ErrorResponse
        error = {"application/json": {"schema": _reference(kind)}}
        responses[str(status)] = _response(ERRORS[status], error)
    envelope = {"application/json": {"schema": _reference(ErrorResponse)}}
    responses["default"] = _response("Every other error.", envelope)
    return responses


def _event_schema(kind: Any) -> Json:
    """One event of a stream, in the form that OpenAPI 3.2 has for them."""
    if get_args(kind):
        return _named_event_schema(get_args(kind))
    chunk = {"contentMediaType": "application/json", "contentSchema": _reference(kind)}
    error = {"contentMediaType": "application/json", "contentSchema": _reference(ErrorResponse)}
    data = {"type": "string", "anyOf": [chunk, error, {"const": "[DONE]"}]}
    return {
        "type": "object",
        "description": "With `stream: true`: one of the events.",
        "properties": {"data": data},
        "required": ["data"],
    }


def _named_event_schema(kinds: Sequence[Any]) -> Json:
    """The same of events that are named, whose stream ends with one that says how it ended."""
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


def _answer_schema(known: Operation) -> Json:
    if known.answer is not None:
        return _reference(known.answer)
    return {"type": "string"} if known.media_type.startswith("text/") else {}


def _response(description: str, content: Json) -> Json:
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in HEADERS}
    return {"description": description, "headers": headers, "content": content}


def _reference(kind: Any) -> Json:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def _schemas() -> Json:
    kinds = {ErrorResponse, ResponseTool, *get_args(InputItem)}
    for known in OPERATIONS.values():
        events = get_args(known.event) or (known.event,)
        kinds.update({known.answer, known.request, *events, known.unavailable})
    kinds.discard(None)
    _, schemas = msgspec.json.schema_components(
        sorted(kinds, key=lambda kind: str(kind.__name__)),
        ref_template="#/components/schemas/{name}",
    )
    for kind in (ChatCompletionRequest, CompletionRequest):
        _describe_fields(schemas[kind.__name__]["properties"], kind)
    for name in (ResponseRequest.__name__, InputTokensRequest.__name__):
        _describe_lists(schemas[name]["properties"])
        response_fields.describe(schemas[name]["properties"])
    response_fields.describe_inside(schemas)
    _describe_extensions(schemas["ResponseRequest"]["properties"])
    return schemas


def _describe_lists(properties: Json) -> None:
    """Of what `gateway.api.openai.responses.protocol` reads in a second step."""
    items = {"anyOf": [_reference(kind) for kind in get_args(InputItem)]}
    for schema in (*properties["input"]["anyOf"], *properties["tools"]["anyOf"]):
        if schema.get("type") == "array":
            is_input = schema in properties["input"]["anyOf"]
            schema["items"] = items if is_input else _reference(ResponseTool)


def _describe_fields(properties: Json, kind: type[Struct]) -> None:
    """Says of each field that has no meaning here what becomes of it."""
    refused = {name: values for name, values in NOT_SUPPORTED.items() if name in properties}
    for name, values in NOT_SUPPORTED_EXTENSIONS.items():
        if name not in kind.__struct_fields__:
            refused[name] = values
    for name, values in refused.items():
        description = "Not supported: refused unless it asks for nothing."
        properties[name] = {"enum": [None, *values], "description": description}
    for name in HARMLESS.keys() & properties.keys():
        properties[name]["description"] = f"Without effect on the answer: {HARMLESS[name]}."
    _describe_extensions(properties)


def _describe_extensions(properties: Json) -> None:
    """What the Structs do not say of fields that OpenAI does not have."""
    whole_number = {"type": "integer", "minimum": -MAX_PRIORITY, "maximum": MAX_PRIORITY}
    properties["priority"] = {
        "anyOf": [{"enum": [None, *PRIORITIES]}, whole_number],
        "description": "Lower is served first.",
    }
    properties["logit_bias"]["anyOf"][0]["propertyNames"] = {"pattern": "^[0-9]+$"}
