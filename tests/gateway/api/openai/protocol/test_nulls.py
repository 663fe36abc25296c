"""Null is the same as nothing, wherever a field may be left out."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec import Struct, inspect

from gateway.api.native.generate import GenerateRequest
from gateway.api.native.tokenize import DetokenizeRequest, TokenizeRequest
from gateway.api.openai.bodies import KINDS
from gateway.api.openai.responses.protocol import ITEMS, ResponseTool
from tests.kit.chat.answers import CHAT, EMBEDDINGS, HI, RESPONSES, TEXT, error_of
from tests.kit.serving import RunningServer

BODIES: list[type[Struct]] = [
    *KINDS.values(),
    GenerateRequest,
    TokenizeRequest,
    DetokenizeRequest,
    ResponseTool,
    *ITEMS.values(),
]
MINIMAL: dict[str, tuple[type[Struct], dict[str, Any]]] = {
    CHAT: (KINDS[CHAT], {"messages": HI, "max_tokens": 2}),
    TEXT: (KINDS[TEXT], {"prompt": "hi", "max_tokens": 2}),
    RESPONSES: (KINDS[RESPONSES], {"input": "hi", "max_output_tokens": 2}),
    "/v1/responses/input_tokens": (KINDS[RESPONSES], {"input": "hi"}),
    "/generate": (GenerateRequest, {"prompt": "hi", "max_new_tokens": 2}),
    "/tokenize": (TokenizeRequest, {"prompt": "hi"}),
    "/detokenize": (DetokenizeRequest, {"tokens": [1]}),
}
FORGIVING: list[tuple[str, dict[str, Any]]] = [
    (CHAT, {"response_format": {"type": "text", "json_schema": None}}),
    (CHAT, {"response_format": {"type": "text", "json_schema": None, "schema": None, "x": None}}),
    (TEXT, {"response_format": {"type": "text", "json_schema": None}}),
    (RESPONSES, {"text": {"format": {"type": "text", "name": None, "schema": None}}}),
    (RESPONSES, {"text": {"format": None, "verbosity": None}, "reasoning": {"effort": None}}),
    (RESPONSES, {"tools": [{"type": "function", "name": "f", "parameters": None, "strict": None}]}),
    ("/generate", {"anything": None, "else": None}),
    (CHAT, {"tools": [], "tool_choice": None, "stop": [], "logit_bias": {}, "metadata": {}}),
    (CHAT, {"messages": [{"role": "user", "content": "a", "name": None, "tool_calls": None}]}),
    (CHAT, {"messages": [{"role": "user", "content": []}]}),
    (CHAT, {"messages": [*HI, {"role": "assistant", "content": []}, *HI]}),
    (RESPONSES, {"input": [{"role": "user", "content": "a", "type": None}]}),
    (RESPONSES, {"input": [{"role": "user", "content": [], "type": "message"}]}),
]
MISSING = "missing_required_parameter"
UNFORGIVING: list[tuple[str, dict[str, Any], str, str]] = [
    (
        CHAT,
        {"response_format": {"type": "text", "x": None, "y": 1}},
        "response_format.y",
        "unknown_parameter",
    ),
    (
        CHAT,
        {"response_format": {"type": "json_schema", "json_schema": {"name": None, "x": None}}},
        "response_format.json_schema.name",
        "missing_required_parameter",
    ),
    *(
        (path, {"response_format": {"type": "json_schema", **fields}}, param, MISSING)
        for path in (CHAT, TEXT)
        for fields, param in (
            ({}, "response_format.json_schema"),
            ({"json_schema": None}, "response_format.json_schema"),
            ({"json_schema": None, "schema": None}, "response_format.json_schema"),
            ({"json_schema": {"schema": {}}}, "response_format.json_schema.name"),
            ({"json_schema": {"name": "n"}}, "response_format.json_schema.schema"),
            ({"json_schema": {"name": "n", "schema": None}}, "response_format.json_schema.schema"),
        )
    ),
    *(
        (RESPONSES, {"text": {"format": {"type": "json_schema", **fields}}}, param, MISSING)
        for fields, param in (
            ({}, "text.format.name"),
            ({"name": "n"}, "text.format.schema"),
            ({"name": "n", "schema": None}, "text.format.schema"),
        )
    ),
    (
        CHAT,
        {"structured_outputs": {"x": None, "y": 1}},
        "structured_outputs.y",
        "unknown_parameter",
    ),
    ("/generate", {"prompt": None, "x": None}, "prompt", "missing_required_parameter"),
    ("/generate", {"x": None, "y": 0}, "y", "unknown_parameter"),
    (RESPONSES, {"input": None}, "input", "missing_required_parameter"),
    (EMBEDDINGS, {"input": None}, "input", "missing_required_parameter"),
    ("/detokenize", {"tokens": None}, "tokens", "missing_required_parameter"),
]


def structs(kind: inspect.Type, seen: set[type]) -> Iterator[inspect.StructType]:
    """Every Struct that a value may have in it."""
    for name in ("types", "item_types"):
        for each in getattr(kind, name, ()):
            yield from structs(each, seen)
    for name in ("item_type", "key_type", "value_type"):
        if (inner := getattr(kind, name, None)) is not None:
            yield from structs(inner, seen)
    if isinstance(kind, inspect.StructType) and kind.cls not in seen:
        seen.add(kind.cls)
        yield kind
        for field in kind.fields:
            yield from structs(field.type, seen)


def takes_null(kind: inspect.Type) -> bool:
    if isinstance(kind, inspect.UnionType):
        return any(map(takes_null, kind.types))
    return isinstance(kind, inspect.NoneType | inspect.AnyType | inspect.RawType)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_every_field_that_may_be_left_out_may_be_null(body: type[Struct]):
    found = list(structs(inspect.type_info(body), set()))
    refusing = [
        f"{kind.cls.__name__}.{field.name}"
        for kind in found
        for field in kind.fields
        if not field.required and not takes_null(field.type)
    ]

    assert found
    assert refusing == []


@pytest.mark.parametrize("path", MINIMAL)
def test_all_nulls_at_once_are_no_fields_at_all(open_server: RunningServer, path: str):
    kind, body = MINIMAL[path]
    nulls = dict.fromkeys(set(kind.__struct_fields__) - {"messages", "input", "tokens"})

    plain = open_server.http.post(path, json=body)
    assert plain.status_code == 200, plain.text
    assert open_server.http.post(path, json={**nulls, **body}).status_code == 200


@pytest.mark.parametrize(("path", "fields"), FORGIVING)
def test_what_says_nothing_is_nothing(
    open_server: RunningServer, path: str, fields: dict[str, Any]
):
    response = open_server.http.post(path, json={**MINIMAL[path][1], **fields})

    assert response.status_code == 200, response.text


@pytest.mark.parametrize(("path", "fields", "param", "code"), UNFORGIVING)
def test_what_is_wrong_beside_nulls_is_named(
    open_server: RunningServer, path: str, fields: dict[str, Any], param: str, code: str
):
    body = MINIMAL[path][1] if path in MINIMAL else {"input": "hi"}
    error = error_of(open_server.http.post(path, json={**body, **fields}))

    assert (error["param"], error["code"]) == (param, code)
    assert f"`{param}`" in error["message"]


@pytest.mark.parametrize("key", ["not_a_token_id", "1.5", "-1", "", "9" * 30])
@pytest.mark.parametrize("path", [CHAT, TEXT, RESPONSES])
def test_a_wrong_key_is_named(open_server: RunningServer, path: str, key: str):
    fields = {"logit_bias": {"5": 1, key: 1, "6": 1}}
    error = error_of(open_server.http.post(path, json={**MINIMAL[path][1], **fields}))

    assert error["param"] == "logit_bias"
    assert f"The key `{key}` of `logit_bias`" in error["message"]


def test_numbers_survive_the_second_reading(open_server: RunningServer):
    """Of a body that is read again without its nulls."""
    body = {"messages": HI, "max_tokens": 2, "seed": 2**63 - 1}
    plain = open_server.http.post(CHAT, json=body).json()["choices"]
    fields = {"response_format": {"type": "text", "x": None}}

    assert open_server.http.post(CHAT, json={**body, **fields}).json()["choices"] == plain
    assert msgspec.json.encode(2**63 - 1) == b"9223372036854775807"
