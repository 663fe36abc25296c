"""The OpenAPI document: well formed, complete, and true of what the server answers."""

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.api.openai.protocol.requests import ChatCompletionRequest, CompletionRequest
from gateway.api.openai.translate.unsupported import (
    HARMLESS,
    NOT_SUPPORTED,
)
from tests.kit.chat.answers import CHAT, HI, TEXT
from tests.kit.serving import MODEL, RunningServer, parse_events, running_server, scripted_settings

Document = dict[str, Any]


@pytest.fixture(scope="module")
def document(open_server: RunningServer) -> Document:
    response = open_server.http.get("/openapi.json")
    assert response.headers["content-type"] == "application/json"
    found: Document = response.json()
    return found


def check(document: Document, name: str, value: Any) -> None:
    """The value fits the schema of this name, and has no field that the schema does not know."""
    components = json.loads(json.dumps(document["components"]))
    for schema in components["schemas"].values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    schema = {"$ref": f"#/components/schemas/{name}", "components": components}
    Draft202012Validator(schema).validate(value)


def schema_at(document: Document, method: str, path: str, status: int) -> str:
    """The name of the schema of an answer in JSON."""
    response = document["paths"][path][method]["responses"][str(status)]
    reference: str = response["content"]["application/json"]["schema"]["$ref"]
    return reference.rpartition("/")[2]


def event_at(document: Document, path: str) -> str:
    content = document["paths"][path]["post"]["responses"]["200"]["content"]
    event = content["text/event-stream"]["schema"]["properties"]["data"]["anyOf"][0]
    reference: str = event["contentSchema"]["$ref"]
    return reference.rpartition("/")[2]


def test_it_is_an_openapi_document(document: Document):
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
    paths = document["paths"].values()
    identifiers = [operation["operationId"] for path in paths for operation in path.values()]
    assert len(set(identifiers)) == len(identifiers)


def test_every_path_that_it_names_is_there(open_server: RunningServer, document: Document):
    """And takes the methods that it names."""
    for path, operations in document["paths"].items():
        name = re.sub(r"\{\w+\}", "x", path)
        allowed = open_server.http.options(name).headers["allow"]
        methods = {method.lower() for method in allowed.split(", ")} - {"head", "options"}
        assert methods == set(operations)
        assert all(operation["summary"] for operation in operations.values())


@pytest.mark.parametrize("kind", [ChatCompletionRequest, CompletionRequest])
def test_every_field_is_described_with_its_fate(document: Document, kind: Any):
    properties = document["components"]["schemas"][kind.__name__]["properties"]
    declared = set(kind.__struct_fields__)

    assert properties.keys() == declared
    for name, schema in properties.items():
        assert ("Not supported" in schema.get("description", "")) == (name in NOT_SUPPORTED)
        assert ("Without effect" in schema.get("description", "")) == (name in HARMLESS)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (CHAT, {"messages": HI}),
        (CHAT, {"messages": HI, "n": 2, "logprobs": True, "top_logprobs": 2}),
        (CHAT, {"messages": HI, "service_tier": "flex", "stop": "fox"}),
        (TEXT, {"prompt": "hi"}),
        (TEXT, {"prompt": ["a", "b"], "logprobs": 2, "echo": True}),
    ],
)
def test_answers_and_events_are_as_described(
    open_server: RunningServer, document: Document, path: str, fields: dict[str, Any]
):
    whole = open_server.post(path, max_tokens=9, **fields)
    check(document, schema_at(document, "post", path, 200), whole.json())
    for options in ({}, {"include_usage": True}, {"continuous_usage_stats": True}):
        for chunk in open_server.chunks(path, max_tokens=9, stream_options=options, **fields):
            check(document, event_at(document, path), chunk)


def test_the_other_answers_are_as_described(open_server: RunningServer, document: Document):
    for method, path, body in (
        ("post", "/generate", {"prompt": "a"}),
        ("post", "/tokenize", {"prompt": "a", "return_token_strs": True}),
        ("post", "/detokenize", {"tokens": [97]}),
        ("get", "/v1/models", None),
        ("get", "/health", None),
        ("get", "/health/ready", None),
        ("get", "/version", None),
    ):
        response = open_server.http.request(method, path, json=body)
        assert response.status_code == 200
        check(document, schema_at(document, method, path, 200), response.json())
    for event in parse_events(open_server.post("/generate", prompt="a", stream=True).text):
        check(document, event_at(document, "/generate"), event)
    card = open_server.http.get(f"/v1/models/{MODEL}").json()
    check(document, schema_at(document, "get", "/v1/models/{model_id}", 200), card)


def test_responses_are_as_described(open_server: RunningServer, document: Document):
    """Their events have names, and one schema for each."""
    tool = {"type": "function", "name": "f", "parameters": {"type": "object"}}
    body: dict[str, Any] = {
        "input": "hi",
        "max_output_tokens": 9,
        "tools": [tool],
        "top_logprobs": 1,
    }
    check(document, "ResponseRequest", {"model": MODEL, **body})
    check(document, "Response", open_server.post("/v1/responses", **body).json())
    counted = open_server.post("/v1/responses/input_tokens", input="hi").json()
    check(document, "InputTokens", counted)
    content = document["paths"]["/v1/responses"]["post"]["responses"]["200"]["content"]
    described = content["text/event-stream"]["schema"]["properties"]
    stream = open_server.post("/v1/responses", **body, stream=True).text
    for event in stream.removesuffix("\n\n").split("\n\n"):
        name, data = event.split("\n")
        place = described["event"]["enum"].index(name.removeprefix("event: "))
        reference = described["data"]["anyOf"][place]["contentSchema"]["$ref"]
        value = json.loads(data.removeprefix("data: "))
        check(document, reference.rpartition("/")[2], value)
    stored = open_server.http.get("/v1/responses/resp_1")
    path = "/v1/responses/{response_id}"
    check(document, schema_at(document, "get", path, 404), stored.json())


def test_errors_are_as_described(open_server: RunningServer, document: Document):
    for path, body, status in (
        (CHAT, {"messages": []}, 400),
        (CHAT, {"messages": HI, "model": "other"}, 404),
        (TEXT, {}, 400),
        ("/generate", {}, 400),
        ("/detokenize", {"tokens": [1000]}, 400),
    ):
        response = open_server.post(path, **body)
        assert response.status_code == status
        check(document, schema_at(document, "post", path, status), response.json())
    with running_server(scripted_settings(load_ms=60_000), wait_until_ready=False) as loading:
        for method, path, body in (
            ("post", CHAT, {"model": MODEL, "messages": HI}),
            ("get", "/health", None),
            ("get", "/health/ready", None),
        ):
            response = loading.http.request(method, path, json=body)
            assert response.status_code == 503
            check(document, schema_at(document, method, path, 503), response.json())


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": HI, "max_tokens": 2}),
        (TEXT, {"prompt": "hi", "max_tokens": 2}),
        ("/generate", {"prompt": "hi", "max_new_tokens": 2}),
        ("/v1/responses", {"input": "hi", "max_output_tokens": 16}),
    ],
)
def test_streams_end_as_it_says(
    open_server: RunningServer, document: Document, path: str, body: dict[str, Any]
):
    event = document["paths"][path]["post"]["responses"]["200"]["content"]["text/event-stream"]
    is_done = {"const": "[DONE]"} in event["schema"]["properties"]["data"]["anyOf"]
    text = open_server.http.post(path, json={"model": MODEL, **body, "stream": True}).text
    *_, last, rest = text.split("\n\n")

    assert rest == ""
    assert (last == "data: [DONE]") == is_done
    if not is_done:
        name = last.partition("\n")[0].removeprefix("event: ")
        assert name in event["schema"]["properties"]["event"]["enum"]
        description = document["info"]["description"]
        assert f"`{name}`" in description
        assert path in description


HUGE = 10**30
WRAPS: list[Any] = [HUGE, -HUGE, [HUGE], [[HUGE]], {"1": HUGE}, {str(HUGE): 1}]
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"model": MODEL, "messages": HI, "max_tokens": 2},
    TEXT: {"model": MODEL, "prompt": "hi", "max_tokens": 2},
    "/v1/responses": {"model": MODEL, "input": "hi", "max_output_tokens": 2},
    "/v1/responses/input_tokens": {"model": MODEL, "input": "hi"},
    "/v1/embeddings": {"model": MODEL, "input": "hi"},
    "/v1/rerank": {"model": MODEL, "query": "hi", "documents": ["ho"]},
    "/v2/rerank": {"model": MODEL, "query": "hi", "documents": ["ho"]},
    "/v1/responses/compact": {"model": MODEL, "input": "hi"},
    "/v1/score": {"model": MODEL, "text_1": "hi", "text_2": "ho"},
    "/v1/conversations": {"metadata": {"a": "b"}},
    "/generate": {"prompt": "hi", "max_new_tokens": 2},
    "/tokenize": {"prompt": "hi"},
    "/detokenize": {"tokens": [1]},
}
FOR_ADMINS = {"/v1/load_lora_adapter", "/v1/unload_lora_adapter"}
"""Those that no user may send."""
OF_STORED = {
    "/v1/chat/completions/{completion_id}",
    "/v1/conversations/{conversation_id}",
    "/v1/conversations/{conversation_id}/items",
}
"""Those about something that has to be stored before, which have tests of their own."""


def posts(document: Document) -> dict[str, Any]:
    """The fields of every body, by path."""
    found = {}
    for path, operations in document["paths"].items():
        if "requestBody" in operations.get("post", {}):
            schema = operations["post"]["requestBody"]["content"]["application/json"]["schema"]
            name = schema["$ref"].rpartition("/")[2]
            found[path] = document["components"]["schemas"][name]["properties"]
    return found


@pytest.mark.parametrize("path", BODIES)
def test_numbers_of_any_size_are_the_clients_mistake(
    open_server: RunningServer, document: Document, path: str
):
    """Those that no machine word holds, in every field, alone and in lists and objects."""
    for field, schema in posts(document)[path].items():
        for value in WRAPS:
            response = open_server.post(path, **{**BODIES[path], field: value})
            assert response.status_code in (200, 400, 404), (field, value, response.text)
            if value == HUGE and '"integer"' in json.dumps(schema):
                assert response.status_code == 400, field
                assert response.json()["error"]["param"] == field
    assert open_server.post(path, **BODIES[path]).status_code == 200


def test_parameters_of_urls_are_described(document: Document):
    listed = document["paths"]["/v1/conversations/{conversation_id}/items"]["get"]
    found = {each["name"]: each["schema"] for each in listed["parameters"]}
    assert list(found) == ["conversation_id", "include", "after", "limit", "order"]
    assert found["limit"] == {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}
    assert found["order"]["enum"] == ["asc", "desc"]
    assert {each["in"] for each in listed["parameters"][1:]} == {"query"}
    for operations in document["paths"].values():
        for operation in operations.values():
            assert "$ref" not in json.dumps(operation.get("parameters", []))


def test_every_body_is_tried(document: Document):
    assert set(posts(document)) == set(BODIES) | FOR_ADMINS | OF_STORED
